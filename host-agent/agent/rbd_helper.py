"""librados and librbd for the agent: one JSON request per line on stdin, one JSON answer per line on stdout.

    {"id": 7, "op": "ensure_clone", "cluster": {...}, "args": {...}}
    {"id": 7, "result": {...}}   or   {"id": 7, "error": {"code": "NOT_FOUND", "message": "...", "retryable": false}}

The `rbd` command takes 40 to 400 ms per call; a living process 2 to 45 ms. Requests run on a pool of threads, because a call
into librbd blocks (and lets go of the interpreter's lock meanwhile). Every ensure may run twice, and when its opposite never ran.
A request with "until", a moment of time.monotonic(), is not begun afterwards: it may have waited for a thread.

An image is made under `<name>.part-<operation>`, tagged, and renamed: under its own name it is complete, and without a tag foreign.
"""
import base64
import concurrent.futures
import contextlib
import errno
import json
import os
import re
import sys
import threading
import time
import uuid

# Answers go out on a private copy of stdout: librados prints warnings on its own whenever it likes.
ANSWERS = os.fdopen(os.dup(1), 'w', buffering=1)
os.dup2(2, 1)

import rados  # noqa: E402
import rbd  # noqa: E402

GIB = 1 << 30
WORKERS = 24
# Ceph retries for ever when it is away; after this long the caller hears of it.
MONITOR_TIMEOUT_SECONDS = 15
OSD_TIMEOUT_SECONDS = 60
IDLE_CONNECTION_SECONDS = 300
SHUT_DOWN_ERRNO = 108
LETTING_GO_SECONDS = 2
COPY_CHUNK = 4 << 20
# Set on an image in the trash that is to vanish with the last clone of its hidden snapshots.
EXPUNGED = 'belay.expunged'


class Problem(Exception):
    def __init__(self, code, message, retryable=False):
        super().__init__(message)
        self.code, self.message, self.retryable = code, message, retryable


# ---------------------------------------------------------------- connections

class Clusters:
    """One connection per cluster and user, made on first use."""

    def __init__(self):
        self.lock = threading.Lock()
        self.connections = {}  # key -> [Rados, last use, lock, requests under way]

    @contextlib.contextmanager
    def use(self, access):
        key = (tuple(access['monitors']), access['user'], access['key'])
        with self.lock:
            entry = self.connections.setdefault(key, [None, 0.0, threading.Lock(), 0])
            entry[3] += 1
        try:
            with entry[2]:
                if entry[0] is None:
                    entry[0] = self.open(access)
            found = entry[0].get_fsid()
            if found != access['fsid']:
                raise Problem('PRECONDITION_FAILED', 'the storage cluster at %s is %s, not %s'
                              % (', '.join(access['monitors']), found, access['fsid']))
            yield entry[0]
        finally:
            with self.lock:
                entry[1] = time.monotonic()
                entry[3] -= 1

    @staticmethod
    def open(access):
        conf = {
            'mon_host': ','.join(access['monitors']),
            'key': access['key'],
            'log_file': '/dev/null',
            'admin_socket': '',
            # Rados.connect(timeout=) is not honoured; this is.
            'client_mount_timeout': '10',
            'rados_mon_op_timeout': str(MONITOR_TIMEOUT_SECONDS),
            'rados_osd_op_timeout': str(OSD_TIMEOUT_SECONDS),
            # Clones whose parent's snapshot needs no protection and may be removed before them.
            'rbd_default_clone_format': '2',
        }
        cluster = rados.Rados(name='client.' + access['user'], conf=conf)
        try:
            cluster.connect()
        except rados.PermissionDeniedError:
            raise Problem('PRECONDITION_FAILED', 'the storage cluster refuses the user %s' % access['user'])
        except rados.Error as error:
            raise Problem('BACKEND_UNAVAILABLE', 'the storage cluster at %s does not answer: %s'
                          % (', '.join(access['monitors']), error), True)
        return cluster

    def forget(self, cluster):
        """The next request makes a new one; requests under way keep this one to their end."""
        with self.lock:
            for key, entry in list(self.connections.items()):
                if entry[0] is cluster:
                    del self.connections[key]

    def drop_idle(self):
        with self.lock:
            old = [key for key, entry in self.connections.items()
                   if entry[3] == 0 and time.monotonic() - entry[1] > IDLE_CONNECTION_SECONDS]
            gone = [self.connections.pop(key)[0] for key in old]
        for cluster in gone:
            if cluster is not None:
                cluster.shutdown()


CLUSTERS = Clusters()
CURRENT = threading.local()  # the cluster of the request that this thread serves


def command(cluster, prefix, **args):
    request = dict(args, prefix=prefix, format='json')
    code, out, status = cluster.mon_command(json.dumps(request), b'')
    if code != 0:
        raise OSError(-code, status or os.strerror(-code))
    return json.loads(out) if out.strip() else {}


def open_pool(cluster, pool):
    try:
        return cluster.open_ioctx(pool)
    except rados.ObjectNotFound:
        raise Problem('NOT_FOUND', 'there is no pool %s' % pool)


# ---------------------------------------------------------------- images

def tags_to_metadata(tags):
    values = {'belay.id': tags['id'], 'belay.kind': tags['kind'], 'belay.operation': tags['operation'],
              'belay.revision': str(tags['revision'])}
    if tags.get('projectId'):
        values['belay.project'] = tags['projectId']
    return values


def metadata_to_tags(metadata):
    tags = {}
    for field, key in (('id', 'id'), ('kind', 'kind'), ('operation', 'operation'), ('projectId', 'project')):
        if 'belay.' + key in metadata:
            tags[field] = metadata['belay.' + key]
    if metadata.get('belay.revision', '').isdigit():
        tags['revision'] = int(metadata['belay.revision'])
    return tags


def find_image(io, name):
    """The image opened for reading (which leaves no watcher), or None."""
    try:
        return rbd.Image(io, name, read_only=True)
    except rbd.ImageNotFound:
        return None


def own_image(io, name, tags):
    """Whether the image is there and ours. Refuses a foreign one."""
    image = find_image(io, name)
    if image is None:
        return False
    with image:
        check_owner(name, dict(image.metadata_list()), tags)
    return True


def check_owner(name, metadata, tags):
    owner = metadata.get('belay.id')
    if owner != tags['id']:
        raise Problem('NAME_IN_USE', 'image %s belongs to %s' % (name, owner or 'something that is not Belay'))


def part_name(name, operation):
    return '%s.part-%s' % (name, operation)


def parts_of(io, name):
    return [other for other in rbd.RBD().list(io) if other.startswith(name + '.part-')]


def discard_part(io, part):
    try:
        remove_image(io, part)
    except rbd.ImageNotFound:
        pass


def finish_part(io, part, name, tags, extra=None):
    with rbd.Image(io, part) as image:
        for key, value in dict(tags_to_metadata(tags), **(extra or {})).items():
            image.metadata_set(key, value)
    rbd.RBD().rename(io, part, name)


def trash_entries(io, name):
    """Newest first: a name may have been used again."""
    entries = [entry for entry in rbd.RBD().trash_list(io) if entry['name'] == name]
    return sorted(entries, key=lambda entry: entry['deletion_time'], reverse=True)


def visible_snapshots(image):
    return [snap for snap in image.list_snaps() if snap.get('namespace', 0) == rbd.RBD_SNAP_NAMESPACE_TYPE_USER]


def children_of_snapshot(image, name):
    image.set_snap(name)
    try:
        return ['%s/%s' % (child['pool'], child['image']) for child in image.list_children2()]
    finally:
        image.set_snap(None)


def check_unused(name, image):
    """A QEMU that was stopped a moment ago is still letting go; one that was killed stays listed for 30 s."""
    deadline = time.monotonic() + LETTING_GO_SECONDS
    while watchers := addresses_of(image):
        if time.monotonic() < deadline:
            time.sleep(0.1)
            continue
        raise Problem('INVALID_STATE', 'image %s is in use by %s' % (name, ', '.join(watchers)), True)


def remove_snapshots(image, name):
    for snap in visible_snapshots(image):
        clones = children_of_snapshot(image, snap['name'])
        if clones:
            raise Problem('INVALID_STATE', 'snapshot %s of %s has clones: %s' % (snap['name'], name, ', '.join(clones[:5])))
    for snap in visible_snapshots(image):
        remove_snapshot(image, snap['name'])


def remove_snapshot(image, snapshot):
    if image.is_protected_snap(snapshot):
        image.unprotect_snap(snapshot)
    image.remove_snap(snapshot)


def has_hidden_snapshots(image):
    return any(snap.get('namespace', 0) == rbd.RBD_SNAP_NAMESPACE_TYPE_TRASH for snap in image.list_snaps())


def parent_of(image):
    try:
        parent = image.get_parent_image_spec()
        return {'pool': parent['pool_name'], 'name': parent['image_name'], 'id': image.parent_id()}
    except rbd.ImageNotFound:
        return None


def remove_image(io, name):
    """Removes an image with its snapshots. One with hidden snapshots that clones still need goes into the trash until they are gone."""
    with rbd.Image(io, name, read_only=True) as image:
        # Removing the image would be refused too, but only after its snapshots are gone.
        check_unused(name, image)
    with rbd.Image(io, name) as image:
        remove_snapshots(image, name)
        parent = parent_of(image)
        hidden = has_hidden_snapshots(image)
        if hidden:
            image.metadata_set(EXPUNGED, '1')
    if hidden:
        rbd.RBD().trash_move(io, name, 0)
        return
    rbd.RBD().remove(io, name)
    if parent:
        sweep_parent(io, parent)


def remove_from_trash(io, entry):
    with rbd.Image(io, image_id=entry['id']) as image:
        remove_snapshots(image, entry['name'])
        parent = parent_of(image)
        if has_hidden_snapshots(image):
            image.metadata_set(EXPUNGED, '1')
            return
    rbd.RBD().trash_remove(io, entry['id'], True)
    if parent:
        sweep_parent(io, parent)


def sweep_parent(io, parent):
    """The last clone of an expunged image takes it along."""
    try:
        with CURRENT.cluster.open_ioctx(parent['pool']) as parent_io:
            for entry in rbd.RBD().trash_list(parent_io):
                if entry['id'] != parent['id']:
                    continue
                with rbd.Image(parent_io, image_id=entry['id'], read_only=True) as image:
                    if EXPUNGED not in dict(image.metadata_list()):
                        return
                remove_from_trash(parent_io, entry)
    except (rbd.Error, rados.Error, Problem) as error:
        # It stays in the trash, where the inventory shows it.
        print('expunged parent %s stays in the trash: %s' % (parent['name'], error), file=sys.stderr)




def op_check(cluster):
    """
    The connection stands, so monitors, user, key and fsid are right. The next request makes a new one: a connection keeps the rights
    that its user had when it was made, and knows nothing of pools that were granted since.
    """
    CLUSTERS.forget(cluster)
    return {'addresses': own_addresses(cluster)}


def own_addresses(cluster):
    """Under which the cluster knows this client, and so every other one of this host: `v2:10.0.0.5:0/123` or `[v2:[fd00::5]:0/123,v1:…]`."""
    found = re.findall(r'\[([0-9a-fA-F:]+)\]:\d+/\d+|(\d+\.\d+\.\d+\.\d+):\d+/\d+', cluster.get_addrs())
    return sorted({six or four for six, four in found})


def op_ensure_image(cluster, pool, image, sizeGib, tags):
    with open_pool(cluster, pool) as io:
        if not own_image(io, image, tags):
            part = part_name(image, tags['operation'])
            discard_part(io, part)
            rbd.RBD().create(io, part, sizeGib * GIB)
            finish_part(io, part, image, tags)
        else:
            grow(io, image, sizeGib * GIB)
    return {}


def op_ensure_clone(cluster, pool, image, source, sizeGib, tags):
    with open_pool(cluster, pool) as io:
        if own_image(io, image, tags):
            grow(io, image, sizeGib * GIB)
            return {}
        with open_pool(cluster, source['pool']) as parent_io:
            part = part_name(image, tags['operation'])
            discard_part(io, part)
            try:
                rbd.RBD().clone(parent_io, source['image'], source['snapshot'], io, part)
            except rbd.ImageNotFound:
                raise Problem('NOT_FOUND', 'there is no %s/%s@%s to clone' % (source['pool'], source['image'], source['snapshot']))
        with rbd.Image(io, part) as clone:
            if clone.size() > sizeGib * GIB:
                too_small = clone.size()
            else:
                too_small = 0
                clone.resize(sizeGib * GIB)
        if too_small:
            discard_part(io, part)
            raise Problem('INVALID_ARGUMENT', '%d GiB are less than the %d bytes of the source' % (sizeGib, too_small))
        finish_part(io, part, image, tags)
    return {}


def grow(io, name, size):
    with rbd.Image(io, name, read_only=True) as image:
        if image.size() >= size:
            return
    with rbd.Image(io, name) as image:
        image.resize(size)


def op_ensure_image_absent(cluster, pool, image, onlyOperation=None):
    with open_pool(cluster, pool) as io:
        found = find_image(io, image)
        if found is not None:
            with found:
                metadata = dict(found.metadata_list())
            if 'belay.id' not in metadata:
                raise Problem('NAME_IN_USE', 'image %s is not of Belay' % image)
            if onlyOperation is None or metadata.get('belay.operation') == onlyOperation:
                try:
                    remove_image(io, image)
                except rbd.ImageNotFound:
                    pass
        for part in parts_of(io, image) if onlyOperation is None else [part_name(image, onlyOperation)]:
            discard_part(io, part)
    return {}


def op_ensure_size(cluster, pool, image, sizeGib, allowShrink):
    with open_pool(cluster, pool) as io:
        with require_image(io, image) as found:
            size = found.size()
        wanted = sizeGib * GIB
        if size == wanted:
            return {}
        if size > wanted and not allowShrink:
            raise Problem('INVALID_ARGUMENT', '%s has %d bytes already; shrinking would destroy data' % (image, size))
        with rbd.Image(io, image) as found:
            found.resize(wanted)
    return {}


def require_image(io, name):
    found = find_image(io, name)
    if found is None:
        raise Problem('NOT_FOUND', 'there is no image %s' % name)
    return found


def snapshot_key(snapshot):
    return 'belay.snapshot.' + snapshot


def op_ensure_snapshot(cluster, pool, image, snapshot, tags, protect=False):
    with open_pool(cluster, pool) as io:
        require_image(io, image).close()
        with rbd.Image(io, image) as found:
            make_snapshot(found, image, snapshot, tags, protect)
    return {}


def make_snapshot(image, name, snapshot, tags, protect):
    metadata = dict(image.metadata_list())
    exists = any(snap['name'] == snapshot for snap in visible_snapshots(image))
    if exists:
        owner = json.loads(metadata.get(snapshot_key(snapshot), '{}')).get('id')
        if owner != tags['id']:
            raise Problem('NAME_IN_USE', 'snapshot %s@%s belongs to %s' % (name, snapshot, owner or 'something that is not Belay'))
    else:
        # A snapshot has no metadata of its own. The tag comes first: a snapshot without one is foreign.
        image.metadata_set(snapshot_key(snapshot), json.dumps(tags))
        image.create_snap(snapshot)
    if protect and not image.is_protected_snap(snapshot):
        image.protect_snap(snapshot)


def op_ensure_snapshot_absent(cluster, pool, image, snapshot):
    """Of the image under its name, and of those that lie in the trash under it: a snapshot there would keep them for ever."""
    with open_pool(cluster, pool) as io:
        try:
            drop_snapshot(lambda read_only: rbd.Image(io, image, read_only=read_only), image, snapshot)
        except rbd.ImageNotFound:
            pass
        for entry in trash_entries(io, image):
            try:
                drop_snapshot(lambda read_only, id=entry['id']: rbd.Image(io, image_id=id, read_only=read_only), image, snapshot)
            except rbd.ImageNotFound:
                pass
    return {}


def drop_snapshot(open_image, image, snapshot):
    with open_image(True) as found:
        exists = any(snap['name'] == snapshot for snap in visible_snapshots(found))
        tagged = snapshot_key(snapshot) in dict(found.metadata_list())
    if exists and not tagged:
        raise Problem('NAME_IN_USE', 'snapshot %s@%s is not of Belay' % (image, snapshot))
    if not tagged:
        return
    with open_image(False) as writable:
        if exists:
            remove_snapshot(writable, snapshot)
        writable.metadata_remove(snapshot_key(snapshot))


def op_roll_back(cluster, pool, image, snapshot):
    with open_pool(cluster, pool) as io:
        with require_image(io, image) as found:
            if not any(snap['name'] == snapshot for snap in visible_snapshots(found)):
                raise Problem('NOT_FOUND', 'there is no snapshot %s@%s' % (image, snapshot))
            check_unused(image, found)
        with rbd.Image(io, image) as writable:
            writable.rollback_to_snap(snapshot)
    return {}


def op_ensure_trashed(cluster, pool, image):
    with open_pool(cluster, pool) as io:
        if find_image(io, image) is None:
            return {}
        try:
            rbd.RBD().trash_move(io, image, 0)
        except rbd.ImageNotFound:
            pass
    return {}


def op_ensure_restored(cluster, pool, image):
    with open_pool(cluster, pool) as io:
        found = find_image(io, image)
        if found is not None:
            found.close()
            return {}
        entries = trash_entries(io, image)
        if not entries:
            raise Problem('NOT_FOUND', 'image %s is neither in the pool %s nor in its trash' % (image, pool))
        rbd.RBD().trash_restore(io, entries[0]['id'], image)
    return {}


def op_ensure_expunged(cluster, pool, image):
    with open_pool(cluster, pool) as io:
        try:
            remove_image(io, image)
        except rbd.ImageNotFound:
            pass
        for entry in trash_entries(io, image):
            try:
                remove_from_trash(io, entry)
            except rbd.ImageNotFound:
                pass
        for part in parts_of(io, image):
            discard_part(io, part)
    return {}


def addresses_of(image):
    return [watcher['addr'] for watcher in image.watchers_list()]


def op_watchers(cluster, pool, image):
    with open_pool(cluster, pool) as io:
        found = find_image(io, image)
        if found is None:
            return {'addresses': []}
        with found:
            return {'addresses': addresses_of(found)}


def op_image_status(cluster, pool, image):
    """Size and tags, or found=false."""
    with open_pool(cluster, pool) as io:
        found = find_image(io, image)
        if found is None:
            return {'found': False}
        with found:
            return {'found': True, 'sizeBytes': found.size(), 'tags': metadata_to_tags(dict(found.metadata_list()))}


def op_inventory(cluster, pool):
    images = []
    with open_pool(cluster, pool) as io:
        for name in rbd.RBD().list(io):
            found = find_image(io, name)
            if found is None:
                continue
            with found:
                images.append({'name': name, 'sizeBytes': found.size(), 'tags': metadata_to_tags(dict(found.metadata_list())),
                               'snapshots': [snap['name'] for snap in visible_snapshots(found)],
                               'watchers': len(addresses_of(found))})
        trash = [{'id': entry['id'], 'name': entry['name']} for entry in rbd.RBD().trash_list(io)]
    return {'images': images, 'trash': trash}


def op_begin_part(cluster, pool, image, operation, sizeBytes):
    """An empty image of exactly this size for a copy, under its part name."""
    with open_pool(cluster, pool) as io:
        part = part_name(image, operation)
        discard_part(io, part)
        rbd.RBD().create(io, part, sizeBytes)
    return {'part': part}


def op_write_part(cluster, pool, image, operation, offset, content):
    """Bytes of a copy, in base64. Writing the same twice is harmless."""
    data = base64.b64decode(content)
    with open_pool(cluster, pool) as io:
        with rbd.Image(io, part_name(image, operation)) as part:
            part.write(data, offset)
            part.flush()
    return {}


def op_finish_part(cluster, pool, image, tags, snapshot=None):
    """Tags a filled part, snapshots and protects it, and gives it its name."""
    with open_pool(cluster, pool) as io:
        part = part_name(image, tags['operation'])
        if snapshot:
            with rbd.Image(io, part) as found:
                make_snapshot(found, part, snapshot, tags, True)
        finish_part(io, part, image, tags)
    return {}


def op_discard_part(cluster, pool, image, operation):
    with open_pool(cluster, pool) as io:
        discard_part(io, part_name(image, operation))
    return {}


def op_ensure_content(cluster, pool, image, content, digest, tags):
    """A small image with exactly this content; `digest` tells an equal one without reading it."""
    data = base64.b64decode(content)
    with open_pool(cluster, pool) as io:
        replaces = own_image(io, image, tags)
        if replaces:
            with require_image(io, image) as found:
                if dict(found.metadata_list()).get('belay.digest') == digest:
                    return {}
                check_unused(image, found)
        part = part_name(image, tags['operation'])
        discard_part(io, part)
        rbd.RBD().create(io, part, len(data))
        with rbd.Image(io, part) as written:
            for offset in range(0, len(data), COPY_CHUNK):
                written.write(data[offset:offset + COPY_CHUNK], offset)
            written.flush()
        if replaces:
            remove_image(io, image)
        finish_part(io, part, image, tags, {'belay.digest': digest})
    return {}


# ---------------------------------------------------------------- administration of a cluster

HEALTH = {'HEALTH_OK': 'ok', 'HEALTH_WARN': 'warn', 'HEALTH_ERR': 'error'}


def op_ceph_status(cluster):
    status = command(cluster, 'status')
    usage = command(cluster, 'df')['stats']
    versions = command(cluster, 'versions').get('overall', {})
    osdmap = status['osdmap'].get('osdmap', status['osdmap'])
    version = next(iter(versions), 'ceph version ?').split(' ')[2]
    return {'fsid': status['fsid'], 'version': version, 'health': HEALTH.get(status['health']['status'], 'error'),
            'totalBytes': usage['total_bytes'], 'usedBytes': usage['total_used_raw_bytes'],
            'osds': {'total': osdmap['num_osds'], 'up': osdmap['num_up_osds'], 'in': osdmap['num_in_osds']}}


def user_capabilities(pools):
    of_pools = ', '.join('profile rbd pool=' + pool for pool in pools)
    # A user without pools may still log in.
    return ['mon', 'profile rbd', 'osd', of_pools, 'mgr', of_pools] if pools else ['mon', 'profile rbd']


def op_ensure_user(cluster, user, pools):
    entity = 'client.' + user
    wanted = user_capabilities(pools)
    try:
        found = command(cluster, 'auth get', entity=entity)[0]
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
        return {'key': command(cluster, 'auth get-or-create', entity=entity, caps=wanted)[0]['key']}
    if found['caps'] != dict(zip(wanted[::2], wanted[1::2])):
        command(cluster, 'auth caps', entity=entity, caps=wanted)
    return {'key': found['key']}


def op_ensure_user_absent(cluster, user):
    try:
        command(cluster, 'auth rm', entity='client.' + user)
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
    return {}


# Ceph ends an entry by itself; this one is taken away by whoever knows that the host runs nothing any more.
FENCE_SECONDS = 10 * 365 * 86400
WHOLE_HOST = ':0/0'


def whole_host(address):
    return ('[%s]' if ':' in address else '%s') % address + WHOLE_HOST


def op_fenced(cluster):
    entries = command(cluster, 'osd dump')['blocklist']
    return {'addresses': sorted(entry[:-len(WHOLE_HOST)].strip('[]') for entry in entries if entry.endswith(WHOLE_HOST))}


def op_ensure_fenced(cluster, addresses):
    for address in addresses:
        command(cluster, 'osd blocklist', blocklistop='add', addr=whole_host(address), expire=float(FENCE_SECONDS))
    missing = set(addresses) - set(op_fenced(cluster)['addresses'])
    if missing:
        raise Problem('BACKEND_UNAVAILABLE', 'the storage cluster does not shut out %s' % ', '.join(sorted(missing)), True)
    return {}


def op_ensure_unfenced(cluster, addresses):
    for address in addresses:
        try:
            command(cluster, 'osd blocklist', blocklistop='rm', addr=whole_host(address))
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
    return {}


def op_prove_writable(cluster, pool):
    # A host that was shut out a moment ago must know that it is not any more.
    cluster.wait_for_latest_osdmap()
    name = 'belay-writable-%s' % uuid.uuid4()
    with open_pool(cluster, pool) as io:
        io.write_full(name, b'belay')
        io.remove_object(name)
    return {}


def pool_tags(cluster, pool):
    """The tags of a pool, {} for one without, None for no such pool."""
    for found in command(cluster, 'osd dump')['pools']:
        if found['pool_name'] == pool:
            return metadata_to_tags(found['application_metadata'].get('rbd', {}))
    return None


def rule_name(pool):
    return 'belay-' + pool


def placement_groups(cluster, device_class, replicas):
    """A start for the autoscaler: about eight per disk, a power of two, never many on a small cluster."""
    osds = command(cluster, 'osd tree')['nodes']
    count = sum(1 for node in osds if node['type'] == 'osd' and (device_class is None or node.get('device_class') == device_class))
    if count == 0:
        raise Problem('PRECONDITION_FAILED', 'the cluster has no disk of the class %s' % (device_class or 'any'))
    groups = 8
    while groups * 2 <= count * 8 // replicas and groups < 128:
        groups *= 2
    return groups


def op_ensure_pool(cluster, pool, deviceClass, replicas, failureDomain, tags):
    found = pool_tags(cluster, pool)
    if found is not None and found.get('id') not in (None, tags['id']):
        raise Problem('NAME_IN_USE', 'pool %s belongs to %s' % (pool, found['id']))
    if found is not None and 'id' not in found and not unfinished(cluster, pool):
        # A pool that the operator made: it is used as it is, and never removed.
        command(cluster, 'osd pool application enable', pool=pool, app='rbd', yes_i_really_mean_it=True)
        return {'made': False}
    if found is None:
        groups = placement_groups(cluster, deviceClass, replicas)
        rule = {'name': rule_name(pool), 'root': 'default', 'type': failureDomain}
        if deviceClass is not None:
            rule['class'] = deviceClass
        command(cluster, 'osd crush rule create-replicated', **rule)
        command(cluster, 'osd pool create', pool=pool, pg_num=groups, pgp_num=groups, pool_type='replicated', rule=rule_name(pool))
    set_size(cluster, pool, replicas)
    command(cluster, 'osd pool application enable', pool=pool, app='rbd')
    for key, value in tags_to_metadata(tags).items():
        command(cluster, 'osd pool application set', pool=pool, app='rbd', key=key, value=value)
    # A pool of this name may have been removed a moment ago: this client must know the new one.
    cluster.wait_for_latest_osdmap()
    with open_pool(cluster, pool) as io:
        rbd.RBD().pool_init(io, True)
    return {'made': found is None or 'id' not in found or found.get('operation') == tags['operation']}


def unfinished(cluster, pool):
    """A pool of ours whose making was cut off before it was tagged: it uses the rule that is named after it."""
    rules = {rule['rule_id']: rule['rule_name'] for rule in command(cluster, 'osd crush rule dump')}
    for found in command(cluster, 'osd dump')['pools']:
        if found['pool_name'] == pool:
            return rules.get(found['crush_rule']) == rule_name(pool)
    return False


def set_size(cluster, pool, replicas):
    if replicas == 1:
        # Refused by default, since one lost disk loses data; the operator asked for it by name.
        command(cluster, 'config set', who='global', name='mon_allow_pool_size_one', value='true')
        command(cluster, 'osd pool set', pool=pool, var='size', val='1', yes_i_really_mean_it=True)
        command(cluster, 'osd pool set', pool=pool, var='min_size', val='1')
        return
    command(cluster, 'osd pool set', pool=pool, var='size', val=str(replicas))
    command(cluster, 'osd pool set', pool=pool, var='min_size', val=str(max(1, replicas - 1)))


def op_ensure_pool_absent(cluster, pool, tags):
    found = pool_tags(cluster, pool)
    if found is not None:
        if found.get('id') != tags['id'] and not ('id' not in found and unfinished(cluster, pool)):
            return {}  # never ours, so there is nothing of ours to remove
        with open_pool(cluster, pool) as io:
            images = rbd.RBD().list(io) if 'id' in found else []
            images += [entry['name'] for entry in rbd.RBD().trash_list(io)] if 'id' in found else []
        if images:
            raise Problem('INVALID_STATE', 'pool %s still holds %d images, such as %s' % (pool, len(images), images[0]))
        delete_pool(cluster, pool)
    rules = [rule['rule_name'] for rule in command(cluster, 'osd crush rule dump')]
    if rule_name(pool) in rules:
        command(cluster, 'osd crush rule rm', name=rule_name(pool))
    return {}


def delete_pool(cluster, pool):
    def delete():
        command(cluster, 'osd pool delete', pool=pool, pool2=pool, yes_i_really_really_mean_it=True)
    try:
        delete()
    except OSError as error:
        if error.errno != errno.EPERM:
            raise
        # Ceph's guard against mistakes; this pool is empty and Belay's own.
        command(cluster, 'config set', who='mon', name='mon_allow_pool_delete', value='true')
        try:
            retry_while_refused(delete)
        finally:
            command(cluster, 'config rm', who='mon', name='mon_allow_pool_delete')


def retry_while_refused(action, seconds=10):
    """A changed setting reaches the monitors a moment later."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return action()
        except OSError as error:
            if error.errno != errno.EPERM or time.monotonic() > deadline:
                raise
        time.sleep(0.1)


def op_pool_status(cluster, pool):
    """The manager counts a pool seconds after it was made, more of them on a busy cluster."""
    open_pool(cluster, pool).close()
    deadline = time.monotonic() + 20
    while True:
        for found in command(cluster, 'df')['pools']:
            if found['name'] == pool:
                stats = found['stats']
                return {'totalBytes': stats['bytes_used'] + stats['max_avail'], 'usedBytes': stats['bytes_used'], 'objects': stats['objects']}
        if time.monotonic() > deadline:
            raise Problem('BACKEND_UNAVAILABLE', 'Ceph does not count the pool %s yet' % pool, True)
        time.sleep(0.25)


# ---------------------------------------------------------------- heartbeats

def heartbeat_name(host):
    return 'belay.heartbeat.' + host


def op_write_heartbeat(cluster, pool, host, text):
    with open_pool(cluster, pool) as io:
        io.write_full(heartbeat_name(host), text.encode())
    return {'addresses': own_addresses(cluster)}


def op_remove_heartbeat(cluster, pool, host):
    with open_pool(cluster, pool) as io:
        with contextlib.suppress(rados.ObjectNotFound):
            io.remove_object(heartbeat_name(host))
    return {}


def op_read_heartbeats(cluster, pool, hosts):
    found = {}
    with open_pool(cluster, pool) as io:
        for host in hosts:
            with contextlib.suppress(rados.ObjectNotFound):
                found[host] = io.read(heartbeat_name(host), 256).decode()
    return found


OPERATIONS = {name[3:]: function for name, function in list(globals().items()) if name.startswith('op_')}


# ---------------------------------------------------------------- requests

def problem_of(error):
    if isinstance(error, Problem):
        return error
    number = getattr(error, 'errno', None) or 0
    number = abs(number)
    text = str(error)
    if isinstance(error, (rbd.ImageBusy, rbd.ReadOnlyImage)) or number == errno.EBUSY:
        return Problem('INVALID_STATE', 'the image is in use: ' + text, True)
    if isinstance(error, (rbd.ImageNotFound, rados.ObjectNotFound)) or number == errno.ENOENT:
        return Problem('NOT_FOUND', text)
    if isinstance(error, (rbd.PermissionError, rados.PermissionError, rados.PermissionDeniedError)) or number in (errno.EPERM, errno.EACCES):
        return Problem('PRECONDITION_FAILED', 'the storage cluster refuses this: ' + text)
    if number == SHUT_DOWN_ERRNO:
        return Problem('BACKEND_UNAVAILABLE', 'the storage cluster has fenced this host', True)
    if number == errno.EINVAL or isinstance(error, (rbd.InvalidArgument, rados.InvalidArgumentError)):
        return Problem('INVALID_ARGUMENT', text)
    if isinstance(error, (OSError, rbd.Error, rados.Error)):
        return Problem('BACKEND_UNAVAILABLE', text, True)
    return Problem('INTERNAL', '%s: %s' % (type(error).__name__, text))


def serve(request):
    try:
        with CLUSTERS.use(request['cluster']) as cluster:
            CURRENT.cluster = cluster
            until = request.get('until')
            if until is not None and time.monotonic() > until:
                raise Problem('SUPERSEDED', 'this request has waited too long for its turn', True)
            try:
                answer = {'id': request['id'], 'result': OPERATIONS[request['op']](cluster, **request['args'])}
            except (OSError, rbd.Error, rados.Error) as error:
                if abs(getattr(error, 'errno', 0) or 0) in (SHUT_DOWN_ERRNO, errno.ENOTCONN):
                    CLUSTERS.forget(cluster)
                raise
    except Exception as error:  # every failure is an answer
        problem = problem_of(error)
        if problem.code == 'INTERNAL':
            import traceback
            traceback.print_exc()
        answer = {'id': request['id'], 'error': {'code': problem.code, 'message': problem.message, 'retryable': problem.retryable}}
    line = json.dumps(answer)
    with ANSWER_LOCK:
        ANSWERS.write(line + '\n')


ANSWER_LOCK = threading.Lock()


def main():
    with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
        last_sweep = time.monotonic()
        for line in sys.stdin:
            pool.submit(serve, json.loads(line))
            if time.monotonic() - last_sweep > 60:
                last_sweep = time.monotonic()
                CLUSTERS.drop_idle()
    os._exit(0)  # librados waits for its threads otherwise


main()
