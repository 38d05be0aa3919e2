"""Monitor commands over one connection: one JSON command per input line, one JSON answer {rc, out, err} per output line.

The `ceph` program needs 0.3 s of Python start-up per command; librados answers in milliseconds.
{"prefix": "probe pool", "pool": p} writes, and removes, one object in a pool.
"""
import json
import sys
import time

import rados

conf = sys.argv[1]


def connect():
    end = time.time() + 30
    while True:
        # Rados.connect(timeout=) is not honoured by this release; the option is.
        cluster = rados.Rados(conffile=conf, name="client.admin", conf={"client_mount_timeout": "5"})
        try:
            cluster.connect()
            return cluster
        except rados.Error:
            if time.time() > end:
                raise
            time.sleep(0.05)


def probe(pool):
    # A connection of its own: the old one may still know the OSDs' addresses of before a crash, and asks for new ones after 10 s only.
    fresh = connect()
    try:
        with fresh.open_ioctx(pool) as io:
            completion = io.aio_write_full("lab.probe", b"x")
            end = time.time() + 30
            while not completion.is_complete():
                if time.time() > end:
                    return -110, b"", "pool %s takes no writes" % pool
                time.sleep(0.005)
            io.remove_object("lab.probe")
            return 0, b"", ""
    finally:
        fresh.shutdown()


cluster = connect()
for line in sys.stdin:
    command = json.loads(line)
    if "weight" in command:  # JSON writers make no difference between 1 and 1.0; the monitor does
        command["weight"] = float(command["weight"])
    if command["prefix"] == "probe pool":
        rc, out, err = probe(command["pool"])
    else:
        rc, out, err = cluster.mon_command(json.dumps(dict(command, format="json")), b"", timeout=30)
    try:
        answer = json.loads(out)
    except ValueError:
        answer = None
    print(json.dumps({"rc": rc, "out": answer, "err": err}), flush=True)
cluster.shutdown()
