import { chmodSync, existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import type { Board } from '../../runtime/progress.mjs';
import { must, run } from './processes.ts';

/** What a hypervisor host needs. In the lab the hosts share the machine's /usr, so these are installed on the machine. */
export const hostPackages = [
  ...['libvirt-daemon', 'libvirt-daemon-driver-qemu', 'libvirt-daemon-system', 'libvirt-clients', 'gnutls-bin'],
  ...['qemu-system-x86', 'qemu-utils', 'qemu-block-extra', 'genisoimage'],
  ...['openvswitch-switch', 'ovn-host', 'ovn-common', 'iproute2', 'ethtool', 'tcpdump', 'iputils-ping'],
  ...['ceph-common', 'python3-rados', 'python3-rbd', 'openssh-server'],
] as const;

/** Ceph and OVN's central databases. */
const cloudPackages = ['ceph-mon', 'ceph-mgr', 'ceph-osd', 'radosgw', 'ovn-central'] as const;

/** The guest image's kernel and file systems, and the hosts' init. */
const labPackages = [
  ...[
    'mtools',
    'syslinux',
    'syslinux-common',
    'dosfstools',
    'e2fsprogs',
    'fdisk',
    'cpio',
    'kmod',
    'busybox',
    'util-linux',
    'openssh-client',
    // BMCs that speak IPMI, and what speaks to them.
    'openipmi',
    'ipmitool',
  ],
] as const;

const hostPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
const policyFile = '/usr/sbin/policy-rc.d';

export function isDebian12(): boolean {
  const release = existsSync('/etc/os-release') ? readFileSync('/etc/os-release', 'utf8') : '';
  return /^ID=debian$/m.test(release) && /^VERSION_ID="?12"?$/m.test(release);
}

/** On two cores, with nothing in apt's cache. */
const INSTALL_SECONDS = 120;
/** apt first fetches, then unpacks and sets up; the second takes longer. */
const FETCH_SHARE = 0.3;

/** Another apt-get may be at work: wait for its lock instead of failing. */
const apt = ['apt-get', '-qq', '-o', 'DPkg::Lock::Timeout=600'];
const quiet = { DEBIAN_FRONTEND: 'noninteractive', APT_LISTCHANGES_FRONTEND: 'none' };

let updated: Promise<void> | undefined;
/** Once per process. */
export function aptUpdate(): Promise<void> {
  updated ??= must([...apt, 'update'], { env: quiet }).then(() => {});
  return updated;
}

/** Tells how far it is, from 0 to 1. */
export async function aptInstall(
  names: readonly string[],
  progress: (fraction: number) => void = () => {},
): Promise<void> {
  const onOutput = (text: string): void => {
    for (const [, phase, percent] of text.matchAll(/^(dl|pm)status:[^:]*:([\d.]+):/gm)) {
      const share = Number(percent) / 100;
      progress(phase === 'dl' ? share * FETCH_SHARE : FETCH_SHARE + share * (1 - FETCH_SHARE));
    }
  };
  const options = ['-o', 'APT::Status-Fd=1', '-y', '--no-install-recommends', 'install'];
  await must([...apt, ...options, ...names], { env: quiet, onOutput });
}

/** What the lab needs and the machine does not have. */
export async function missingPackages(): Promise<string[]> {
  const wanted = [...hostPackages, ...cloudPackages, ...labPackages, ...(await missingNode()), ...initFlavour()];
  return notInstalled(wanted);
}

/** Installs with apt-get what the lab needs and the machine does not have. No service is started by it. Throws one clear line otherwise. */
export async function ensurePackages(board: Board): Promise<void> {
  if (process.getuid?.() !== 0) throw new Error('lab: must run as root (it makes network and mount namespaces)');
  if (!isDebian12()) {
    throw new Error(
      'lab: needs Debian 12 (bookworm); its packages of libvirt, Ceph and OVN are what the lab is made of',
    );
  }
  const missing = await missingPackages();
  if (missing.length === 0) return;
  const part = board.begin("Debian's packages", { seconds: INSTALL_SECONDS });
  const restorePolicy = forbidServiceStarts();
  try {
    await aptUpdate();
    await aptInstall(missing, part.at);
  } catch (error) {
    part.drop();
    throw error;
  } finally {
    restorePolicy();
  }
  const stillMissing = await notInstalled(missing);
  if (stillMissing.length > 0) throw new Error(`lab: apt-get did not install ${stillMissing.join(', ')}`);
  part.end(`${missing.length} and what they need`);
}

async function notInstalled(names: readonly string[]): Promise<string[]> {
  // dpkg-query fails when one name is unknown, and still lists the others.
  const { stdout } = await run(['dpkg-query', '-W', '-f', `\${Package} \${db:Status-Status}\n`, ...names]);
  const installed = new Set(
    stdout
      .split('\n')
      .filter((line) => line.endsWith(' installed'))
      .map((line) => line.split(' ')[0]),
  );
  return names.filter((name) => !installed.has(name));
}

/** The agent runs on the host's own Node; Debian's is taken only where the hosts' path has none that is new enough. */
async function missingNode(): Promise<string[]> {
  const { stdout } = await run(['node', '--version'], { env: { PATH: hostPath } });
  return Number(/^v(\d+)/.exec(stdout)?.[1] ?? 0) >= 18 ? [] : ['nodejs'];
}

/** libvirt-daemon-system insists on one kind of init scripts; without systemd the smaller kind will do. */
function initFlavour(): string[] {
  return existsSync('/run/systemd/system') ? [] : ['libvirt-daemon-system-sysv'];
}

/** While this policy stands, package scripts start no service (Debian Policy 9.3.3.1, invoke-rc.d). */
function forbidServiceStarts(): () => void {
  const aside = `${policyFile}.before-belay-lab`;
  // The one kept aside by a run that was killed is the true one.
  if (existsSync(policyFile) && !existsSync(aside)) renameSync(policyFile, aside);
  writeFileSync(policyFile, '#!/bin/sh\nexit 101\n');
  chmodSync(policyFile, 0o755);
  return () => {
    if (existsSync(aside)) renameSync(aside, policyFile);
    else rmSync(policyFile, { force: true });
  };
}
