import { readdir, readFile } from 'node:fs/promises';
import os from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import type { HostFacts, HostMetrics } from '../protocol.ts';
import { runProgram } from './command.ts';
import type { Libvirt, LibvirtSession } from './libvirt.ts';
import { exists, PATHS, readIfExists, writeFileAtomically } from './paths.ts';
import { numberOf, type TypedParameters } from './xdr.ts';

const KVM_FILE = join(PATHS.state, 'kvm.json');
const SECTOR_BYTES = 512;

/** What the probe found; null until it ran. */
export async function kvmVerdict(): Promise<boolean | null> {
  const text = await readIfExists(KVM_FILE);
  return text === undefined ? null : (JSON.parse(text) as { kvm: boolean }).kvm;
}

export async function keepKvmVerdict(kvm: boolean, reason: string): Promise<void> {
  await writeFileAtomically(KVM_FILE, `${JSON.stringify({ kvm, reason, at: new Date().toISOString() })}\n`, 0o644);
}

/** Open vSwitch's kernel module is loaded, built in, or there to be loaded by its own start script. */
export async function hasKernelDatapath(): Promise<boolean> {
  if (await exists('/sys/module/openvswitch')) return true;
  const modules = join('/lib/modules', os.release());
  const dependencies = (await readIfExists(join(modules, 'modules.dep'))) ?? '';
  const builtIn = (await readIfExists(join(modules, 'modules.builtin'))) ?? '';
  return /\/openvswitch\.ko/.test(dependencies) || /\/openvswitch\.ko/.test(builtIn);
}

export async function hostFacts(agentVersion: string, libvirt: Libvirt): Promise<HostFacts> {
  const osRelease = (await readIfExists('/etc/os-release')) ?? '';
  const [session, packages, disks, interfaces, kvm, kernelDatapath, machineId] = await Promise.all([
    libvirt.session().then((live) => live.version()),
    packageVersions(['openvswitch-switch', 'ovn-host', 'ceph-common']),
    hostDisks(),
    hostInterfaces(),
    kvmVerdict(),
    hasKernelDatapath(),
    readIfExists('/etc/machine-id'),
  ]);
  return {
    hostname: os.hostname(),
    machineId: (machineId ?? '').trim(),
    os: /^PRETTY_NAME="?([^"\n]*)/m.exec(osRelease)?.[1] ?? os.type(),
    kernel: os.release(),
    architecture: hostArchitecture(),
    cpuModel: os.cpus()[0]?.model.trim() ?? '',
    vcpus: os.cpus().length,
    memoryMib: Math.floor(os.totalmem() / 2 ** 20),
    disks,
    interfaces,
    kvm,
    kernelDatapath,
    versions: {
      agent: agentVersion,
      libvirt: session.library,
      qemu: session.hypervisor,
      ovs: packages['openvswitch-switch'] ?? '',
      ovn: packages['ovn-host'] ?? '',
      ceph: packages['ceph-common'] ?? '',
      node: process.versions.node,
    },
  };
}

export function hostArchitecture(): HostFacts['architecture'] {
  return process.arch === 'arm64' ? 'aarch64' : 'x86_64';
}

/** Asked of dpkg, because `ceph --version` alone takes a quarter of a second. Distribution suffixes are cut off. */
async function packageVersions(names: string[]): Promise<Record<string, string>> {
  // biome-ignore lint/suspicious/noTemplateCurlyInString: dpkg-query fills these in
  const output = await runProgram('dpkg-query', ['-W', '-f', '${Package} ${Version}\\n', ...names]).catch(() => '');
  const pairs = output.split('\n').map((line) => line.split(' '));
  return Object.fromEntries(pairs.map(([name, version]) => [name, (version ?? '').replace(/^\d+:|[-+~].*$/g, '')]));
}

async function hostDisks(): Promise<HostFacts['disks']> {
  const names = await readdir('/sys/block').catch(() => []);
  const physical = names.filter((name) => !/^(loop|ram|zram|dm-|sr|nbd|rbd|md)/.test(name)).sort();
  return Promise.all(
    physical.map(async (name) => ({
      name,
      sizeBytes: Number((await readIfExists(`/sys/block/${name}/size`)) ?? 0) * SECTOR_BYTES,
      rotational: (await readIfExists(`/sys/block/${name}/queue/rotational`))?.trim() === '1',
    })),
  );
}

async function hostInterfaces(): Promise<HostFacts['interfaces']> {
  const names = (await readdir('/sys/class/net').catch(() => [])).filter((name) => name !== 'lo').sort();
  const addresses = os.networkInterfaces();
  return Promise.all(
    names.map(async (name) => ({
      name,
      mac: ((await readIfExists(`/sys/class/net/${name}/address`)) ?? '').trim(),
      mtu: Number((await readIfExists(`/sys/class/net/${name}/mtu`)) ?? 0),
      addresses: (addresses[name] ?? []).map(({ address }) => address),
    })),
  );
}

/** All addresses of this host, to tell its own watchers of an image from those of others. */
export function ownAddresses(): Set<string> {
  const all = Object.values(os.networkInterfaces()).flatMap((list) => list ?? []);
  return new Set(all.map(({ address }) => address));
}

type Statistics = Awaited<ReturnType<LibvirtSession['statistics']>>;

const STATISTICS_MS = 4_000;

/**
 * What guests use, as libvirt says; null where it does not in time. A guest whose storage hangs may hold it up for as long as that hangs: so it is asked
 * over a connection of its own, and not again before it has answered.
 */
export function guestStatistics(
  libvirt: Pick<Libvirt, 'withOwnSession'>,
  withinMs = STATISTICS_MS,
): () => Promise<Statistics | null> {
  let asking: Promise<Statistics | null> | undefined;
  return () => {
    asking ??= libvirt
      .withOwnSession((session) => session.statistics())
      .catch(() => null)
      .finally(() => {
        asking = undefined;
      });
    return Promise.race([asking, setTimeout(withinMs, null, { ref: false })]);
  };
}

export async function hostMetrics(guests: () => Promise<Statistics | null>): Promise<HostMetrics> {
  const [statistics, stat, meminfo, netdev] = await Promise.all([
    guests(),
    readFile('/proc/stat', 'utf8'),
    readFile('/proc/meminfo', 'utf8'),
    readFile('/proc/net/dev', 'utf8'),
  ]);
  const network = parseNetDev(netdev);
  return {
    cpuSeconds: parseCpuSeconds(stat),
    cpuCount: os.cpus().length,
    memoryTotalBytes: meminfoBytes(meminfo, 'MemTotal'),
    memoryAvailableBytes: meminfoBytes(meminfo, 'MemAvailable'),
    load1: os.loadavg()[0] ?? 0,
    networkReceivedBytes: network.received,
    networkSentBytes: network.sent,
    hypervisorAnswers: statistics !== null,
    domains: (statistics ?? []).map(({ domain, parameters }) => ({
      id: domain.uuid,
      cpuSeconds: numberOf(parameters, 'cpu.time') / 1e9,
      memoryBytes: numberOf(parameters, 'balloon.rss') * 1024,
      readBytes: sumOf(parameters, 'block', 'rd.bytes'),
      writtenBytes: sumOf(parameters, 'block', 'wr.bytes'),
      readOperations: sumOf(parameters, 'block', 'rd.reqs'),
      writeOperations: sumOf(parameters, 'block', 'wr.reqs'),
      // What the tap received is what the guest sent; libvirt already turns it round.
      receivedBytes: sumOf(parameters, 'net', 'rx.bytes'),
      sentBytes: sumOf(parameters, 'net', 'tx.bytes'),
    })),
  };
}

function sumOf(parameters: TypedParameters, group: 'block' | 'net', name: string): number {
  let sum = 0;
  for (let index = 0; index < numberOf(parameters, `${group}.count`); index += 1) {
    sum += numberOf(parameters, `${group}.${index}.${name}`);
  }
  return sum;
}

/** Busy time of all processors: all of the first line but idle and waiting for I/O, in ticks of a hundredth of a second. */
export function parseCpuSeconds(stat: string): number {
  const fields = (stat.split('\n')[0] ?? '').split(/\s+/).slice(1, 9).map(Number);
  const busy = fields.reduce((sum, ticks, index) => (index === 3 || index === 4 ? sum : sum + ticks), 0);
  return busy / 100;
}

function meminfoBytes(meminfo: string, field: string): number {
  return Number(new RegExp(`^${field}:\\s+(\\d+)`, 'm').exec(meminfo)?.[1] ?? 0) * 1024;
}

/** Of the physical interfaces: bridges, taps and tunnels would count the same bytes again. */
export function parseNetDev(text: string): { received: number; sent: number } {
  let received = 0;
  let sent = 0;
  for (const line of text.split('\n')) {
    const match = /^\s*((?:eth|en|wl|bond)\w*):\s*(.*)$/.exec(line);
    const fields = (match?.[2] ?? '').split(/\s+/).map(Number);
    if (!match) continue;
    received += fields[0] ?? 0;
    sent += fields[8] ?? 0;
  }
  return { received, sent };
}
