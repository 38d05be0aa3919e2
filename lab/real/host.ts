import { randomUUID } from 'node:crypto';
import {
  appendFileSync,
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import net from 'node:net';
import { dirname, join, resolve } from 'node:path';
import {
  addresses,
  type HostNumber,
  hostAddress,
  hostName,
  hostNamespace,
  hostNumbers,
  type LabPaths,
  ports,
  providerBridge,
  tunnelAddress,
  tunnelMtu,
} from './layout.ts';
import { removeHostTaps, setPlugged } from './network.ts';
import {
  beside,
  endProcesses,
  hostInitOf,
  labProcesses,
  must,
  namespaceProcesses,
  type RunOptions,
  type RunResult,
  run,
  startDaemon,
  waitUntil,
} from './processes.ts';

export interface LabHost {
  name: string;
  address: string;
  tunnelAddress: string;
  sshPort: number;
  sshUser: 'root';
  privateKeyPath: string;
  /** As in known_hosts without the name: `ssh-ed25519 AAAA…`. */
  hostKey: string;
}

/**
 * Directories that are the host's own: the machine's files show through, every change stays in the host's layer, and survives a crash.
 * All else (/usr, /home, …) is the machine's, which is how a host has the packages.
 */
const ownLayers = ['/etc', '/var', '/usr/local', '/opt', '/srv'] as const;

/** Directories of the host that show nothing of the machine's. Plain ones, unlike the layers: tests may remove a log from outside. */
const ownDirectories = ['/root', '/var/log'] as const;

const guestEvents = 'guest-events';
/** What the guests of a host did and when, in the words of `virsh`; and when the host itself went off. */
export const guestEventsLog = `/var/log/belay-init/${guestEvents}.log`;

/** The same directory on every host. */
export const sharedDirectory = '/srv/shared';

/** The lab's SSH key, once per home. Each host lets it in as root. */
export async function ensureSshKey(paths: LabPaths): Promise<void> {
  if (existsSync(`${paths.privateKey}.pub`)) return;
  mkdirSync(paths.ssh, { recursive: true, mode: 0o700 });
  rmSync(paths.privateKey, { force: true });
  await must(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-C', 'belay-lab', '-f', paths.privateKey]);
}

/**
 * Boots a host, unless it is up, and plugs its cables in. A host is a set of namespaces (network, mounts, processes, names) with an init
 * of its own, which runs what a Debian hypervisor runs: sshd, libvirtd, Open vSwitch and ovn-controller. None of them is configured for
 * Belay; that is the installer's work.
 */
export async function startHost(paths: LabPaths, host: HostNumber): Promise<void> {
  await setPlugged(host, true);
  if (hostInit(paths, host) === undefined) {
    await removeHostTaps(host);
    await prepareFiles(paths, host);
    startDaemon(
      paths.root,
      hostName(host),
      [
        ...[
          'nsenter',
          `--net=/run/netns/${hostNamespace(host)}`,
          'unshare',
          '--mount',
          '--uts',
          '--ipc',
          '--pid',
          '--fork',
        ],
        ...['--propagation', 'private', '--', '/bin/bash', join(paths.host(host), 'boot.sh'), paths.host(host)],
      ],
      join(paths.host(host), 'console.log'),
    );
  }
  await waitUntil(`${hostName(host)} to boot`, () => isReady(paths, host), 60_000, 50);
}

/** A power cut: every process of the host ends at once, and nobody answers at its addresses. Its disks stay as they are. */
export async function crashHost(paths: LabPaths, host: HostNumber): Promise<void> {
  await setPlugged(host, false);
  await stopHost(paths, host);
}

/** Ends all processes of a host; its cables stay as they are. */
export async function stopHost(paths: LabPaths, host: HostNumber): Promise<void> {
  const mine = () => labProcesses(paths.root).filter((process) => process.part === hostName(host));
  // The end of a PID namespace's init is the end of everything in it.
  await endProcesses(
    mine()
      .filter((process) => process.isHostInit)
      .map(({ pid }) => pid),
    'SIGKILL',
  );
  await endProcesses(
    mine().map(({ pid }) => pid),
    'SIGKILL',
  );
  await removeHostTaps(host);
  const events = hostFile(paths, host, guestEventsLog);
  if (existsSync(events)) appendFileSync(events, `off at ${Date.now() / 1000}\n`);
}

/** All processes of a host are stopped where they are, or go on there. Its cables stay plugged in: it answers to nothing but a ping. */
export function freezeHost(paths: LabPaths, host: HostNumber, frozen: boolean): void {
  const init = hostInit(paths, host);
  if (init === undefined) throw new Error(`${hostName(host)} is not running`);
  for (const pid of beside(init)) process.kill(pid, frozen ? 'SIGSTOP' : 'SIGCONT');
}

/** Runs a command inside a host without SSH: for tests, which need to look into a host that does not answer. */
export async function execHost(
  paths: LabPaths,
  host: HostNumber,
  argv: readonly string[],
  options: RunOptions = {},
): Promise<RunResult> {
  const init = hostInit(paths, host);
  if (init === undefined) return { code: 255, stdout: '', stderr: `${hostName(host)} is not running` };
  const env = ['HOME=/root', 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', 'LANG=C.UTF-8'];
  const enter = ['nsenter', '--target', String(init), '--mount', '--uts', '--ipc', '--net', '--pid', '--wd=/'];
  return run([...enter, '--', 'env', '-i', ...env, ...argv], options);
}

/** How to reach the host by SSH. */
export function hostAccess(paths: LabPaths, host: HostNumber): LabHost {
  const publicKey = readFileSync(join(paths.host(host), 'etc/ssh/ssh_host_ed25519_key.pub'), 'utf8');
  return {
    name: hostName(host),
    address: hostAddress(host),
    tunnelAddress: tunnelAddress(host),
    sshPort: ports.ssh,
    sshUser: 'root',
    privateKeyPath: paths.privateKey,
    hostKey: publicKey.split(' ').slice(0, 2).join(' ').trim(),
  };
}

/** The file, seen from the machine, that a host keeps at `path`, below /etc, /var or /root. To be read; only logs may be removed. */
export function hostFile(paths: LabPaths, host: HostNumber, path: string): string {
  const isOwn = ownDirectories.some((own) => path.startsWith(`${own}/`));
  return join(paths.host(host), isOwn ? 'own' : '', path);
}

/** The process id, seen from the machine, of a running host's init. */
export const hostInit = (paths: LabPaths, host: HostNumber): number | undefined =>
  hostInitOf(paths.root, hostName(host));

/** The socket, seen from the machine, on which libvirt of a running host answers; undefined while the host is off. */
export function libvirtSocket(paths: LabPaths, host: HostNumber): string | undefined {
  const init = hostInit(paths, host);
  return init === undefined ? undefined : `/proc/${init}/root/run/libvirt/libvirt-sock`;
}

async function isReady(paths: LabPaths, host: HostNumber): Promise<boolean> {
  const checks = `test -S /run/libvirt/libvirt-sock && ip -4 addr show br-phy | grep -qw ${tunnelAddress(host)}`;
  const inside = await execHost(paths, host, ['sh', '-c', checks], { timeoutMs: 5000 });
  return inside.code === 0 && (await greets(hostAddress(host), ports.ssh));
}

/** Whether a server speaks first at an address, as sshd does. */
function greets(address: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect({ host: address, port, timeout: 1000 });
    const end = (answer: boolean) => {
      socket.destroy();
      resolve(answer);
    };
    socket.on('data', () => end(true));
    socket.on('timeout', () => end(false));
    socket.on('error', () => end(false));
    socket.on('close', () => end(false));
  });
}

/** Writes the host's own files into its layers, before they are mounted. What an installer may have changed is written only once. */
async function prepareFiles(paths: LabPaths, host: HostNumber): Promise<void> {
  const root = paths.host(host);
  const layer = (path: string) => join(root, path);
  const write = (path: string, text: string, mode = 0o644) => {
    mkdirSync(dirname(layer(path)), { recursive: true });
    writeFileSync(layer(path), text);
    chmodSync(layer(path), mode);
  };
  for (const own of ownLayers) {
    // The kernel refuses a layer that lies inside of what it covers.
    if (resolve(paths.root).startsWith(`${own}/`)) {
      if (own === '/opt' || own === '/srv') continue;
      throw new Error(`lab: the state directory ${paths.root} must not lie below ${own}; choose another BELAY_HOME`);
    }
    mkdirSync(layer(own), { recursive: true });
    mkdirSync(layer(`work${own}`), { recursive: true });
  }
  mkdirSync(join(paths.root, 'shared'), { recursive: true });
  mkdirSync(layer('own/root/.ssh'), { recursive: true, mode: 0o700 });
  mkdirSync(layer('own/var/log'), { recursive: true });
  if (!existsSync(layer('etc/machine-id'))) write('etc/machine-id', `${randomUUID().replaceAll('-', '')}\n`);
  if (!existsSync(layer('own/root/.ssh/authorized_keys'))) {
    copyFileSync(`${paths.privateKey}.pub`, layer('own/root/.ssh/authorized_keys'));
    chmodSync(layer('own/root/.ssh/authorized_keys'), 0o600);
  }
  if (!existsSync(layer('etc/ssh/ssh_host_ed25519_key.pub'))) {
    mkdirSync(layer('etc/ssh'), { recursive: true });
    rmSync(layer('etc/ssh/ssh_host_ed25519_key'), { force: true });
    const key = ['-t', 'ed25519', '-N', '', '-C', hostName(host), '-f', layer('etc/ssh/ssh_host_ed25519_key')];
    await must(['ssh-keygen', '-q', ...key]);
  }
  write('etc/hostname', `${hostName(host)}\n`);
  write(
    'etc/hosts',
    [
      '127.0.0.1 localhost',
      `${addresses.machine} machine`,
      ...hostNumbers.map((n) => `${hostAddress(n)} ${hostName(n)}`),
      '',
    ].join('\n'),
  );
  write('etc/ssh/sshd_config', sshdConfig(host));
  write('etc/inittab', inittab);
  for (const [name, script] of Object.entries(services(host))) write(`etc/lab/services/${name}`, script, 0o755);
  write('etc/lab/first-boot', firstBoot, 0o755);
  for (const program of readdirSync(join(import.meta.dirname, 'host-files'))) {
    write(`usr/local/sbin/${program}`, readFileSync(join(import.meta.dirname, 'host-files', program), 'utf8'), 0o755);
  }
  write('boot.sh', bootScript(ownLayers.filter((own) => !resolve(paths.root).startsWith(`${own}/`))));
}

const sshdConfig = (host: HostNumber) => `ListenAddress ${hostAddress(host)}
HostKey /etc/ssh/ssh_host_ed25519_key
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
MaxStartups 200:30:1000
MaxSessions 1000
LoginGraceTime 30
PidFile /run/sshd.pid
Subsystem sftp internal-sftp
`;

/** busybox's init: runs one supervisor and buries whoever lost its parent, such as QEMU. */
const inittab = `::respawn:/usr/local/sbin/belay-init
::ctrlaltdel:/bin/true
`;

/**
 * What a distribution's units would run. Open vSwitch starts as Debian's ovs-ctl does it: the configuration stays over a boot, the
 * system id comes from its file.
 */
const services = (host: HostNumber): Record<string, string> => ({
  sshd: `#!/bin/sh
mkdir -p /run/sshd
exec /usr/sbin/sshd -D -e
`,
  libvirtd: `#!/bin/sh
# as under systemd: the daemon listens on its unix sockets unless /etc/default/libvirtd says more
LIBVIRTD_ARGS=
[ ! -r /etc/default/libvirtd ] || . /etc/default/libvirtd
exec /usr/sbin/libvirtd $LIBVIRTD_ARGS
`,
  'ovsdb-server': `#!/bin/sh
db=/etc/openvswitch/conf.db
mkdir -p /etc/openvswitch /run/openvswitch
[ -s $db ] || ovsdb-tool create $db /usr/share/openvswitch/vswitch.ovsschema
exec ovsdb-server $db --remote=punix:/run/openvswitch/db.sock --pidfile --log-file -vconsole:off
`,
  'ovs-vswitchd': `#!/bin/sh
# br-phy is the underlay: it holds the tunnel's cable and address, which the userspace datapath needs to have in a bridge of its own.
# Each new vswitchd makes a new tap for it, so the address is set again each time.
while [ ! -S /run/openvswitch/db.sock ]; do sleep 0.02; done
[ -s /etc/openvswitch/system-id.conf ] || cat /proc/sys/kernel/random/uuid >/etc/openvswitch/system-id.conf
ovs-vsctl --no-wait -- init -- set Open_vSwitch . external_ids:system-id="$(cat /etc/openvswitch/system-id.conf)" external_ids:hostname=${hostName(host)} \\
  -- --may-exist add-br br-phy -- set bridge br-phy datapath_type=netdev fail-mode=standalone other_config:hwaddr=02:be:00:00:02:1${host} \\
  -- --may-exist add-port br-phy eth1 -- set interface br-phy mtu_request=${tunnelMtu} \\
  -- --may-exist add-br ${providerBridge} -- set bridge ${providerBridge} datapath_type=netdev fail-mode=standalone \\
  -- --may-exist add-port ${providerBridge} eth2
if [ ! -e /run/openvswitch/booted ]; then # ports of guests that ended with the last boot
  for port in $(ovs-vsctl --bare --columns=name find Interface | grep -E '^vnet[0-9]+$'); do ovs-vsctl --no-wait --if-exists del-port "$port"; done
  : >/run/openvswitch/booted
fi
(
  while ! ip link show br-phy >/dev/null 2>&1; do sleep 0.02; done
  sleep 0.05
  ip addr replace ${tunnelAddress(host)}/24 dev br-phy
  ip link set br-phy up
  ethtool -K br-phy tx off >/dev/null 2>&1
) &
exec ovs-vswitchd unix:/run/openvswitch/db.sock --pidfile --log-file -vconsole:off
`,
  'ovn-controller': `#!/bin/sh
mkdir -p /run/ovn
# started before the database it would wait a second before its next try
while [ ! -S /run/openvswitch/db.sock ]; do sleep 0.02; done
exec ovn-controller unix:/run/openvswitch/db.sock --pidfile --log-file -vconsole:off
`,
  [guestEvents]: `#!/bin/bash
# What guests of this host do, by QEMU's own clock; and by libvirt what ended without a word of QEMU.
while [ ! -S /run/libvirt/libvirt-sock ]; do sleep 0.05; done
exec 2>&1
stdbuf -oL virsh -c qemu:///system qemu-monitor-event --loop --regex --event '^(STOP|RESUME|SHUTDOWN)$' &
stdbuf -oL virsh -c qemu:///system event --event lifecycle --loop --timestamp &
# who listens is not told that libvirtd has ended
tail --pid="$(pidof -s libvirtd)" -f /dev/null &
sleep 0.5 # both are registered by then
echo "listening at $EPOCHREALTIME: $(virsh -c qemu:///system list --state-running --name | xargs)"
wait -n
kill $(jobs -p)
`,
});

/**
 * Makes the host bare, whatever the machine's own /etc and /var hold, and adds to libvirt's configuration what is so only because this
 * host is a set of namespaces: no cgroups, no security driver, and an identity that is not the machine's, else libvirt takes a
 * migration between two hosts for one to itself.
 */
const firstBoot = `#!/bin/sh
rm -rf /etc/libvirt/qemu/networks/* /etc/libvirt/secrets /etc/libvirt/storage /var/lib/libvirt/images/* /var/cache/libvirt/* \\
  /etc/openvswitch/* /var/lib/openvswitch/* /etc/belay* /var/lib/belay* /etc/ceph/*
mkdir -p /etc/libvirt/qemu/networks /var/lib/libvirt/images /var/cache/libvirt /var/log/libvirt /etc/openvswitch /var/lib/openvswitch \\
  /var/log/openvswitch /var/log/ovn /etc/belay-init.d /etc/ceph
cat >>/etc/libvirt/libvirtd.conf <<END
# lab
host_uuid_source = "machine-id"
END
cat >>/etc/libvirt/qemu.conf <<END
# lab
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
cgroup_controllers = [ ]
namespaces = [ ]
stdio_handler = "file"
max_core = 0
END
: >/etc/lab/first-boot-is-done
`;

/** Runs as the first process of the host's namespaces, makes its file system, and becomes its init. */
const bootScript = (layers: readonly string[]) => `set -e
root=$1 # the host's own layers
mount --make-rprivate /
# Copies of these mounts would keep other namespaces alive.
for m in /run/netns/*; do umount -l "$m" 2>/dev/null || true; done
mount -t proc proc /proc
# Mounted anew, /sys shows no cgroups: libvirt runs without them.
mount -t sysfs sysfs /sys
for own in ${layers.join(' ')}; do
  mount -t overlay overlay -o "lowerdir=$own,upperdir=$root$own,workdir=$root/work$own" "$own"
done
for own in ${ownDirectories.join(' ')}; do mount --bind "$root/own$own" "$own"; done
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
# What several hosts see at the same path, as they would a file system of a cluster.
mkdir -p ${sharedDirectory}
mount --bind "$root/../../shared" ${sharedDirectory}
mkdir -p /run/lock /run/libvirt /run/openvswitch /run/ovn /run/ceph
# A /dev/kvm without the processor's own virtualization accepts guests and then hangs them. It has to look inaccessible: with /dev/null in
# its place libvirt takes its cached capabilities for stale and probes QEMU for seconds at every call.
if [ -e /dev/kvm ] && ! grep -qwE 'vmx|svm' /proc/cpuinfo; then
  : >/run/no-kvm
  mount --bind /run/no-kvm /dev/kvm
  mount -o remount,bind,ro /dev/kvm
fi
# The machine's systemctl has no systemd to speak to in here.
if [ -e /usr/bin/systemctl ]; then
  : >/run/no-systemctl
  mount --bind /run/no-systemctl /usr/bin/systemctl
fi
hostname "$(cat /etc/hostname)"
[ -e /etc/lab/first-boot-is-done ] || /etc/lab/first-boot
mount -t tmpfs -o mode=1777 tmpfs /tmp
cd /
exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=linux LANG=C.UTF-8 \\
  BELAY_LAB="$BELAY_LAB" BELAY_LAB_PART="$BELAY_LAB_PART" /bin/busybox init
`;

/** Whatever still runs in the lab's namespaces without being one of its own daemons: sessions, guests, what a test started. */
export function strayProcesses(paths: LabPaths): number[] {
  const own = new Set(labProcesses(paths.root).map(({ pid }) => pid));
  return namespaceProcesses().filter((pid) => !own.has(pid));
}
