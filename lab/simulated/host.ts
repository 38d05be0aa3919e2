/**
 * One simulated host: what it was configured with, the domains it defines and runs, and every call of the protocol.
 * Calls are plain synchronous functions; the long work is in `tasks.ts`, the wire in `hosts.ts`.
 */
import { createHash, randomUUID } from 'node:crypto';
import { type AgentClock, agentClock } from '../../host-agent/clock.ts';
import { createFence, type Fence } from '../../host-agent/fence.ts';
import {
  BEAT_SECONDS,
  type Calls,
  type CephAccess,
  type DiskSpec,
  type DomainSpec,
  type DomainState,
  type DomainStatus,
  type HostEvent,
  type HostFacts,
  type HostInventory,
  type HostMetrics,
  type ImageAddress,
  type PoolAddress,
} from '../../host-agent/protocol.ts';
import { type CephCluster, contentOf, findImage, foreign, type Image, type Pool } from './ceph.ts';
import { ProblemError, refuse } from './problem.ts';
import type { LiveTask, Migration } from './tasks.ts';

const gib = 2 ** 30;
const mib = 2 ** 20;
const serialLogLimit = 65_536;

export interface WorldSettings {
  vcpusPerHost: number;
  memoryMibPerHost: number;
  vcpuOvercommit: number;
  bootMs: number;
  shutDownMs: number;
  migrationMs: number;
}

/** What ovn-controller does for a host: the tests of the network look at its traces in the OVN databases. */
export interface NetworkControl {
  chassisJoined(host: Host): void;
  chassisLeft(systemId: string): void;
  /** The host goes on under another name. Its row under this one stays: ovn-controller, when it ends, looks for that of the new name. */
  chassisRenamed(systemId: string): void;
  chassisHost(systemId: string): Host | undefined;
  /** Whether this host now runs a domain with that interface changed. */
  interfaceChanged(interfaceId: string): void;
}

/** What hosts share. */
export interface World {
  settings: WorldSettings;
  ceph: CephCluster;
  network: NetworkControl;
  /** By name; made when first spoken to. */
  hosts: Map<string, Host>;
  /** Which host runs a domain. */
  running: Map<string, Host>;
  /** Which hosts run a domain with that interface; during a migration both. */
  interfaces: Map<string, Set<Host>>;
  /** Undefined when no such host was declared. */
  findHost(name: string): Host | undefined;
  /** By `sim://…` address, by the migration address it was configured with when no other host has that too, or by name. */
  findHostAt(address: string): Host | undefined;
}

export interface SerialReader {
  write(text: string): unknown;
  end(): unknown;
}

export interface SerialLog {
  /** What the guest said on hosts before this one. */
  earlier: string;
  text: string;
  readers: Set<SerialReader>;
}

export interface Domain {
  /** The definition. */
  spec: DomainSpec;
  /** What the running guest has; differs from the definition when that was changed meanwhile. */
  live: DomainSpec | null;
  state: DomainState;
  reason: string;
  frozen: boolean;
  /** The receiving end of a migration; not yet the guest. */
  incoming: boolean;
  /** Just leaving in a migration: libvirt then refuses to change its devices. */
  leaving: boolean;
  serial: SerialLog;
  bootTimer: NodeJS.Timeout | undefined;
  startedAt: number;
}

export interface SwitchConfiguration {
  systemId: string;
  ovnRemote: string;
  encapsulation: 'geneve' | 'vxlan';
  encapAddress: string;
  integrationBridge: string;
}

export interface Host {
  name: string;
  ip: string;
  world: World;
  connection: 'up' | 'partitioned' | 'crashed';
  bootId: string;
  clock: AgentClock;
  sequence: number;
  kvm: boolean | null;
  domains: Map<string, Domain>;
  clusters: Map<string, CephAccess>;
  hypervisor: { caCertificate: string; certificate: string; privateKey: string; migrationAddress: string } | null;
  switch: SwitchConfiguration | null;
  tasks: Map<string, LiveTask>;
  /** libvirt's jobs, by domain: they outlive the agent. */
  migrations: Map<string, Migration>;
  /** On the host's disk: outlives its agent. */
  fence: Fence;
  listeners: Set<(event: HostEvent) => void>;
  /** Of guests that went on to another host, until they are said to be absent. */
  leftLogs: Map<string, SerialLog>;
  claimedVcpus: number;
  claimedMemoryMib: number;
}

export function createHost(world: World, name: string, index: number): Host {
  const bootId = randomUUID();
  return {
    name,
    ip: `10.${(index >> 16) & 255}.${(index >> 8) & 255}.${index & 255}`,
    world,
    connection: 'up',
    bootId,
    clock: agentClock(bootId),
    sequence: 0,
    kvm: null,
    domains: new Map(),
    clusters: new Map(),
    hypervisor: null,
    switch: null,
    tasks: new Map(),
    migrations: new Map(),
    fence: createFence(),
    listeners: new Set(),
    leftLogs: new Map(),
    claimedVcpus: 0,
    claimedMemoryMib: 0,
  };
}

function uuidOf(...parts: string[]): string {
  const hex = createHash('md5').update(parts.join('\n')).digest('hex');
  return hex.replace(/^(.{8})(.{4}).(.{3}).(.{3})(.{12})$/, '$1-$2-4$3-8$4-$5');
}

/** A new life of the agent: streams end, tasks are lost, numbering starts anew. A migration is libvirt's, and goes on. */
export function renewAgent(host: Host): void {
  host.bootId = randomUUID();
  host.clock = agentClock(host.bootId);
  host.sequence = 0;
  for (const { task, abort } of host.tasks.values()) if (task.name !== 'domain.migrate') abort.abort();
  host.tasks.clear();
}

export function publish(host: Host, type: HostEvent['type'], domainId: string, reason: string): void {
  host.sequence += 1;
  if (host.listeners.size === 0) return;
  const { bootId, sequence } = host;
  const event: HostEvent = { bootId, sequence, at: new Date().toISOString(), type, domainId, reason };
  for (const listener of host.listeners) listener(event);
}

export function hello(host: Host): HostEvent {
  return {
    bootId: host.bootId,
    sequence: host.sequence,
    at: new Date().toISOString(),
    type: 'hello',
    beatSeconds: BEAT_SECONDS,
    domains: [...host.domains.values()].map(({ spec, state, reason }) => ({ id: spec.id, state, reason })),
  };
}

// ── Storage as this host reaches it ──────────────────────────────────────────────────────────────────────────────────

export function openPool(host: Host, { storageClusterId, pool }: PoolAddress): Pool {
  const access = host.clusters.get(storageClusterId);
  if (!access)
    throw refuse('PRECONDITION_FAILED', `${host.name} is not connected to storage cluster ${storageClusterId}`);
  return host.world.ceph.openPool(access, pool);
}

/** For what must not be there: no pool, then no image either. */
function openPoolIfAny(host: Host, address: PoolAddress): Pool | undefined {
  try {
    return openPool(host, address);
  } catch (error) {
    if (error instanceof ProblemError && error.problem.code === 'NOT_FOUND') return undefined;
    throw error;
  }
}

function openImage(host: Host, address: ImageAddress): Image {
  return findImage(openPool(host, address), address.image);
}

/** A domain's image that is not there is not "not found": what was asked about is the domain. */
function openDomainImage(host: Host, address: ImageAddress): Image {
  try {
    return openImage(host, address);
  } catch (error) {
    if (error instanceof ProblemError && error.problem.code === 'NOT_FOUND')
      throw refuse('PRECONDITION_FAILED', error.problem.message);
    throw error;
  }
}

// ── Domains ──────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Refuses one that is only arriving, too: it is there, but nothing can be done to it yet. */
export function findDomain(host: Host, id: string): Domain {
  const domain = host.domains.get(id);
  if (!domain) throw refuse('NOT_FOUND', `${host.name} defines no domain ${id}`);
  if (domain.incoming) throw refuse('INVALID_STATE', `Domain ${id} is just arriving on ${host.name}`, true);
  return domain;
}

export function isActive(domain: Domain): boolean {
  return domain.state === 'running' || domain.state === 'paused';
}

function checkElsewhere(host: Host, id: string): void {
  const elsewhere = host.world.running.get(id);
  if (elsewhere && elsewhere !== host) throw refuse('INVALID_STATE', `Domain ${id} runs on ${elsewhere.name}`);
}

export function imagesOf(spec: DomainSpec): ImageAddress[] {
  return spec.seed ? [...spec.disks, spec.seed] : spec.disks;
}

/** Throws unless this host could run it: its images, its pools' clusters, the switch, memory and processors. */
export function checkRunnable(host: Host, spec: DomainSpec): void {
  for (const address of imagesOf(spec)) openDomainImage(host, address);
  if (spec.interfaces.length > 0 && !host.switch)
    throw refuse('PRECONDITION_FAILED', `${host.name} has no integration bridge: its switch is not configured`);
  const { vcpusPerHost, vcpuOvercommit, memoryMibPerHost } = host.world.settings;
  const freeVcpus = vcpusPerHost * vcpuOvercommit - host.claimedVcpus;
  const freeMemoryMib = memoryMibPerHost - host.claimedMemoryMib;
  if (spec.vcpus > vcpusPerHost || spec.vcpus > freeVcpus)
    throw refuse(
      'PRECONDITION_FAILED',
      `${spec.vcpus} vCPUs asked of ${host.name}, ${freeVcpus} of ${vcpusPerHost} free`,
    );
  if (spec.memoryMib > freeMemoryMib)
    throw refuse('PRECONDITION_FAILED', `${spec.memoryMib} MiB asked of ${host.name}, ${freeMemoryMib} free`);
}

/** Watches its images, claims its share of the host and plugs its interfaces. */
export function occupy(host: Host, spec: DomainSpec): void {
  host.claimedVcpus += spec.vcpus;
  host.claimedMemoryMib += spec.memoryMib;
  for (const disk of spec.disks) watch(host, spec.id, disk);
  for (const { id } of spec.interfaces) {
    const hosts = host.world.interfaces.get(id);
    if (hosts) hosts.add(host);
    else host.world.interfaces.set(id, new Set([host]));
    host.world.network.interfaceChanged(id);
  }
}

export function vacate(host: Host, spec: DomainSpec): void {
  host.claimedVcpus -= spec.vcpus;
  host.claimedMemoryMib -= spec.memoryMib;
  for (const disk of spec.disks) unwatch(host, spec.id, disk);
  for (const { id } of spec.interfaces) {
    const hosts = host.world.interfaces.get(id);
    hosts?.delete(host);
    if (hosts?.size === 0) host.world.interfaces.delete(id);
    host.world.network.interfaceChanged(id);
  }
}

/** librbd watches what it opens for writing; a read-only open leaves no watcher. */
function watch(host: Host, domainId: string, disk: DiskSpec): void {
  if (disk.readOnly) return;
  const nonce = Number.parseInt(contentOf(host.name, domainId).slice(0, 8), 16);
  openImage(host, disk).watchers.set(`${host.name}/${domainId}`, `${host.ip}:0/${nonce}`);
}

function unwatch(host: Host, domainId: string, disk: DiskSpec): void {
  const pool = host.world.ceph.pools.get(disk.pool);
  pool?.images.get(disk.image)?.watchers.delete(`${host.name}/${domainId}`);
}

export function print(domain: Domain, text: string): void {
  domain.serial.text = (domain.serial.text + text).slice(-serialLogLimit);
  for (const reader of domain.serial.readers) reader.write(text);
}

export function boot(host: Host, domain: Domain): void {
  clearTimeout(domain.bootTimer);
  domain.bootTimer = setTimeout(
    () => print(domain, `Booting ${domain.spec.hostname}\r\nREADY ${domain.spec.hostname}\r\n`),
    host.world.settings.bootMs,
  );
}

function start(host: Host, domain: Domain): void {
  const { spec } = domain;
  checkElsewhere(host, spec.id);
  checkRunnable(host, spec);
  occupy(host, spec);
  host.world.running.set(spec.id, host);
  domain.live = spec;
  domain.state = 'running';
  domain.reason = 'booted';
  domain.startedAt = Date.now();
  boot(host, domain);
  publish(host, 'domain.started', spec.id, 'booted');
}

/** The guest is no more; its definition stays. */
export function halt(host: Host, domain: Domain, state: 'off' | 'crashed', reason: string): void {
  clearTimeout(domain.bootTimer);
  if (domain.live) vacate(host, domain.live);
  if (host.world.running.get(domain.spec.id) === host) host.world.running.delete(domain.spec.id);
  domain.live = null;
  domain.frozen = false;
  domain.state = state;
  domain.reason = reason;
  publish(host, state === 'crashed' ? 'domain.crashed' : 'domain.stopped', domain.spec.id, reason);
}

/** Everything that ran is gone; what was defined stays, and nothing starts by itself. */
export function crash(host: Host): void {
  for (const domain of [...host.domains.values()]) {
    if (domain.incoming) host.domains.delete(domain.spec.id);
    else if (isActive(domain)) halt(host, domain, 'off', 'unknown');
  }
  renewAgent(host);
}

/** Undefined: with the domain goes its serial log. */
export function forget(host: Host, domain: Domain): void {
  clearTimeout(domain.bootTimer);
  host.domains.delete(domain.spec.id);
  for (const reader of domain.serial.readers) reader.end();
}

/** The log of a domain, or of one that has just left. */
export const serialOf = (host: Host, id: string): SerialLog =>
  host.domains.get(id)?.serial ?? host.leftLogs.get(id) ?? findDomain(host, id).serial;

export function newDomain(spec: DomainSpec, over: Partial<Domain> = {}): Domain {
  return {
    spec,
    live: null,
    state: 'off',
    reason: 'unknown',
    frozen: false,
    incoming: false,
    leaving: false,
    serial: { earlier: '', text: '', readers: new Set() },
    bootTimer: undefined,
    startedAt: 0,
    ...over,
  };
}

function checkDevicesMayChange(domain: Domain): void {
  if (domain.leaving) throw refuse('INVALID_STATE', `Domain ${domain.spec.id} is being migrated`, true);
}

function withDisk(spec: DomainSpec, disk: DiskSpec): DomainSpec {
  const known = spec.disks.some(({ volumeId }) => volumeId === disk.volumeId);
  const disks = known
    ? spec.disks.map((other) => (other.volumeId === disk.volumeId ? disk : other))
    : [...spec.disks, disk];
  return { ...spec, disks };
}

function withoutDisk(spec: DomainSpec, volumeId: string): DomainSpec {
  return { ...spec, disks: spec.disks.filter((disk) => disk.volumeId !== volumeId) };
}

export function facts(host: Host): HostFacts {
  const { vcpusPerHost, memoryMibPerHost } = host.world.settings;
  return {
    hostname: host.name,
    machineId: uuidOf('machine', host.name).replaceAll('-', ''),
    os: 'Debian GNU/Linux 12 (bookworm)',
    kernel: '6.1.0-simulated',
    architecture: 'x86_64',
    cpuModel: 'Simulated CPU',
    vcpus: vcpusPerHost,
    memoryMib: memoryMibPerHost,
    disks: [{ name: 'nvme0n1', sizeBytes: 960 * 10 ** 9, rotational: false }],
    interfaces: [{ name: 'eth0', mac: macOf(host.name), mtu: 9000, addresses: [host.ip] }],
    kvm: host.kvm,
    kernelDatapath: true,
    versions: {
      agent: 'simulated',
      libvirt: '9.0.0',
      qemu: '7.2.0',
      ovs: '3.1.0',
      ovn: '23.03.1',
      ceph: '16.2.15',
      node: process.version.slice(1),
    },
  };
}

function macOf(name: string): string {
  return `52:54:00:${contentOf('mac', name)
    .slice(0, 6)
    .replace(/(..)(..)(..)/, '$1:$2:$3')}`;
}

/** As `tap<11 hex>`: an interface's name has at most 15 characters. */
function tapName(interfaceId: string): string {
  return `tap${interfaceId.replaceAll('-', '').slice(0, 11)}`;
}

export function inventory(host: Host): HostInventory {
  const domains = [...host.domains.values()].sort((a, b) => (a.spec.id < b.spec.id ? -1 : 1));
  const clusters = [...host.clusters.keys()].sort();
  return {
    domains: domains.map(({ spec, state }) => ({ id: spec.id, state, tags: spec.tags })),
    ports: domains
      .flatMap(({ live }) => live?.interfaces ?? [])
      .map(({ id }) => ({ name: tapName(id), interfaceId: id }))
      .sort((a, b) => (a.interfaceId < b.interfaceId ? -1 : 1)),
    secrets: clusters,
    files: [
      ...clusters.flatMap((id) => [`/etc/ceph/${id}.conf`, `/etc/ceph/${id}.keyring`]),
      ...(host.hypervisor
        ? [
            '/etc/libvirt/libvirtd.conf',
            '/etc/pki/CA/cacert.pem',
            '/etc/pki/libvirt/private/serverkey.pem',
            '/etc/pki/libvirt/servercert.pem',
          ]
        : []),
    ],
    tasks: [...host.tasks.values()].filter(({ task }) => task.state === 'running').map(({ task }) => task.id),
  };
}

/** A domain as the inventory of the whole world shows it. */
export interface DomainRecord {
  state: DomainState;
  incoming: boolean;
  frozen: boolean;
  spec: DomainSpec;
}

/** Every domain of the host by id, arriving ones too. */
export function recordOf(host: Host): Record<string, DomainRecord> {
  const sorted = [...host.domains.values()].sort((a, b) => (a.spec.id < b.spec.id ? -1 : 1));
  return Object.fromEntries(
    sorted.map(({ spec, state, incoming, frozen }) => [
      spec.id,
      { state, incoming, frozen, spec: structuredClone(spec) },
    ]),
  );
}

function metrics(host: Host): HostMetrics {
  const now = Date.now();
  const totalBytes = host.world.settings.memoryMibPerHost * mib;
  const domains = [...host.domains.values()].flatMap(({ live, startedAt }) => {
    if (!live) return [];
    const seconds = (now - startedAt) / 1000;
    return [
      {
        id: live.id,
        cpuSeconds: seconds * live.vcpus * 0.05,
        memoryBytes: live.memoryMib * mib,
        readBytes: Math.round(seconds * 10_000),
        writtenBytes: Math.round(seconds * 20_000),
        readOperations: Math.round(seconds * 2),
        writeOperations: Math.round(seconds * 4),
        receivedBytes: Math.round(seconds * 1_000),
        sentBytes: Math.round(seconds * 1_000),
      },
    ];
  });
  const sum = (field: 'cpuSeconds' | 'receivedBytes' | 'sentBytes') =>
    domains.reduce((total, domain) => total + domain[field], 0);
  return {
    cpuSeconds: sum('cpuSeconds'),
    cpuCount: host.world.settings.vcpusPerHost,
    memoryTotalBytes: totalBytes,
    memoryAvailableBytes: totalBytes - host.claimedMemoryMib * mib,
    load1: host.claimedVcpus * 0.05,
    networkReceivedBytes: sum('receivedBytes'),
    networkSentBytes: sum('sentBytes'),
    domains,
  };
}

// ── The calls ────────────────────────────────────────────────────────────────────────────────────────────────────────

type CallHandlers = {
  [Name in keyof Calls]: (
    host: Host,
    input: Calls[Name]['input'],
  ) => Calls[Name]['result'] | Promise<Calls[Name]['result']>;
};

const statusOf = (host: Host, id: string): DomainStatus => {
  const { state, reason } = host.domains.get(id) ?? { state: 'absent', reason: 'absent' };
  return { state, reason };
};

const nothing = {};

export const calls: CallHandlers = {
  'host.facts': facts,
  'host.inventory': inventory,
  'host.metrics': metrics,

  'hypervisor.ensureConfigured'(host, configuration) {
    host.hypervisor = configuration;
    return nothing;
  },
  'hypervisor.ensureUnconfigured'(host) {
    host.hypervisor = null;
    return nothing;
  },

  'switch.ensureConfigured'(host, configuration) {
    const other = host.world.network.chassisHost(configuration.systemId);
    if (other && other !== host)
      throw refuse('NAME_IN_USE', `${other.name} is already the chassis ${configuration.systemId}`);
    if (host.switch && host.switch.systemId !== configuration.systemId)
      host.world.network.chassisRenamed(host.switch.systemId);
    host.switch = configuration;
    host.world.network.chassisJoined(host);
    return nothing;
  },
  'switch.ensureUnconfigured'(host) {
    const { systemId } = host.switch ?? {};
    host.switch = null;
    if (systemId !== undefined) host.world.network.chassisLeft(systemId);
    return nothing;
  },

  'storage.ensureConnected'(host, access) {
    host.world.ceph.authenticate(access);
    host.clusters.set(access.storageClusterId, access);
    return nothing;
  },
  'storage.ensureDisconnected'(host, { storageClusterId }) {
    for (const { live } of host.domains.values())
      if (live && imagesOf(live).some((image) => image.storageClusterId === storageClusterId))
        throw refuse('INVALID_STATE', `Domain ${live.id} runs on storage cluster ${storageClusterId}`);
    host.clusters.delete(storageClusterId);
    return nothing;
  },

  'ceph.status': (host, { access }) => host.world.ceph.status(access),
  'ceph.ensureUser': (host, { access, user, pools }) => host.world.ceph.ensureUser(access, user, pools),
  'ceph.ensureUserAbsent'(host, { access, user }) {
    host.world.ceph.ensureUserAbsent(access, user);
    return nothing;
  },
  'ceph.ensurePool': (host, { access, ...wanted }) => host.world.ceph.ensurePool(access, wanted),
  'ceph.ensurePoolAbsent'(host, { access, pool, tags }) {
    host.world.ceph.ensurePoolAbsent(access, pool, tags);
    return nothing;
  },
  'ceph.poolStatus': (host, { access, pool }) => host.world.ceph.poolStatus(access, pool),

  'rbd.ensureImage'(host, { sizeGib, tags, ...address }) {
    host.world.ceph.ensureImage(openPool(host, address), address.image, tags, sizeGib * gib, () => ({
      content: 'zeroes',
      parent: null,
    }));
    return nothing;
  },
  'rbd.ensureClone'(host, { from, sizeGib, tags, ...address }) {
    const source = { ...from, pool: openPool(host, { ...address, pool: from.pool }) };
    host.world.ceph.ensureClone(openPool(host, address), address.image, tags, source, sizeGib);
    return nothing;
  },
  'rbd.ensureImageAbsent'(host, { onlyOperation, ...address }) {
    const pool = openPoolIfAny(host, address);
    if (pool) host.world.ceph.ensureImageAbsent(pool, address.image, onlyOperation);
    return nothing;
  },
  'rbd.ensureSize'(host, { sizeGib, allowShrink, ...address }) {
    host.world.ceph.ensureSize(openImage(host, address), sizeGib, allowShrink);
    return nothing;
  },
  'rbd.ensureSnapshot'(host, { snapshot, tags, ...address }) {
    host.world.ceph.ensureSnapshot(openImage(host, address), snapshot, tags);
    return nothing;
  },
  'rbd.ensureSnapshotAbsent'(host, { snapshot, ...address }) {
    const pool = openPoolIfAny(host, address);
    if (pool) host.world.ceph.ensureSnapshotAbsent(pool, address.image, snapshot);
    return nothing;
  },
  'rbd.rollBack'(host, { snapshot, ...address }) {
    host.world.ceph.rollBack(openImage(host, address), snapshot);
    return nothing;
  },
  'rbd.ensureTrashed'(host, address) {
    host.world.ceph.ensureTrashed(openPool(host, address), address.image);
    return nothing;
  },
  'rbd.ensureRestored'(host, address) {
    host.world.ceph.ensureRestored(openPool(host, address), address.image);
    return nothing;
  },
  'rbd.ensureExpunged'(host, address) {
    const pool = openPoolIfAny(host, address);
    if (pool) host.world.ceph.ensureExpunged(pool, address.image);
    return nothing;
  },
  'rbd.watchers'(host, address) {
    const image = openPool(host, address).images.get(address.image);
    return { addresses: [...(image?.watchers.values() ?? [])].sort() };
  },
  'rbd.inventory': (host, address) => host.world.ceph.inventory(openPool(host, address)),

  'seed.ensure'(host, { tags, instanceId, hostname, sshKeys, userData, userDataEncoding, ...address }) {
    const content = contentOf('seed', instanceId, hostname, ...sshKeys, userData ?? '', userDataEncoding);
    const pool = openPool(host, address);
    const image = host.world.ceph.ensureImage(pool, address.image, tags, mib, () => ({
      content,
      parent: null,
    }));
    image.content = content;
    return nothing;
  },

  'domain.ensureDefined'(host, spec) {
    checkElsewhere(host, spec.id);
    const known = host.domains.get(spec.id);
    if (known?.incoming) throw refuse('INVALID_STATE', `Domain ${spec.id} is just arriving on ${host.name}`, true);
    if (known && known.spec.tags.id !== spec.tags.id) throw foreign('domain', spec.id, known.spec.tags);
    for (const address of imagesOf(spec)) openDomainImage(host, address);
    if (known) known.spec = spec;
    else host.domains.set(spec.id, newDomain(spec));
    return nothing;
  },
  'domain.ensureRunning'(host, { id }) {
    const domain = findDomain(host, id);
    if (domain.state === 'paused') {
      domain.state = 'running';
      domain.reason = 'unpaused';
      publish(host, 'domain.resumed', id, 'unpaused');
    } else if (domain.state !== 'running') start(host, domain);
    return nothing;
  },
  'domain.ensureOff'(host, { id }) {
    const domain = host.domains.get(id);
    if (domain?.incoming) forget(host, domain);
    else if (domain && isActive(domain)) halt(host, domain, 'off', 'destroyed');
    return nothing;
  },
  'domain.ensureAbsent'(host, { id }) {
    const domain = host.domains.get(id);
    if (!domain) return nothing;
    // An arriving one is taken away from its migration, which then fails and gives back what it occupies.
    if (!domain.incoming && isActive(domain)) halt(host, domain, 'off', 'destroyed');
    forget(host, domain);
    return nothing;
  },
  'domain.reset'(host, { id }) {
    const domain = findDomain(host, id);
    if (!isActive(domain)) throw refuse('INVALID_STATE', `Domain ${id} is ${domain.state}`);
    boot(host, domain);
    return nothing;
  },
  'domain.status': (host, { id }) => statusOf(host, id),
  async 'domain.ensureNotMigrating'(host, { id }) {
    const migration = host.migrations.get(id);
    migration?.abort.abort();
    await migration?.ended.catch(() => {});
    return statusOf(host, id);
  },
  'domain.ensureDisk'(host, { id, disk }) {
    const domain = findDomain(host, id);
    const known = domain.spec.disks.find(({ volumeId }) => volumeId === disk.volumeId);
    if (known && (known.image !== disk.image || known.pool !== disk.pool))
      throw refuse('NAME_IN_USE', `Domain ${id} has volume ${disk.volumeId} on ${known.pool}/${known.image}`);
    openDomainImage(host, disk);
    checkDevicesMayChange(domain);
    domain.spec = withDisk(domain.spec, disk);
    if (domain.live) {
      domain.live = withDisk(domain.live, disk);
      watch(host, id, disk);
    }
    return nothing;
  },
  'domain.ensureDiskAbsent'(host, { id, volumeId, mustBeThere }) {
    const domain = mustBeThere ? findDomain(host, id) : host.domains.get(id);
    if (!domain || domain.incoming) return nothing;
    const plugged = domain.live?.disks.find((disk) => disk.volumeId === volumeId);
    checkDevicesMayChange(domain);
    domain.spec = withoutDisk(domain.spec, volumeId);
    if (domain.live && plugged) {
      domain.live = withoutDisk(domain.live, volumeId);
      unwatch(host, id, plugged);
    }
    return nothing;
  },
  'domain.growDisk'(host, { id, volumeId, sizeGib }) {
    const domain = findDomain(host, id);
    const disk = (domain.live ?? domain.spec).disks.find((candidate) => candidate.volumeId === volumeId);
    if (!disk) throw refuse('NOT_FOUND', `Domain ${id} has no volume ${volumeId}`);
    host.world.ceph.ensureSize(openImage(host, disk), sizeGib, false);
    return nothing;
  },
  'domain.freeze'(host, { id }) {
    const domain = findDomain(host, id);
    domain.frozen = domain.state === 'running';
    return { frozen: domain.frozen };
  },
  'domain.thaw'(host, { id }) {
    const domain = host.domains.get(id);
    if (domain) domain.frozen = false;
    return nothing;
  },
  'domain.serialLog'(host, { id, bytes }) {
    const { earlier, text } = host.domains.get(id)?.serial ?? host.leftLogs.get(id) ?? { earlier: '', text: '' };
    return { text: (earlier + text).slice(-Math.min(Math.max(bytes, 1), mib)) };
  },
  'domain.ensureEarlierSerialLog'(host, { id, text }) {
    const serial = host.domains.get(id)?.serial ?? host.leftLogs.get(id);
    if (serial) serial.earlier = text;
    return nothing;
  },
  'domain.ensureSerialLogAbsent'(host, { id }) {
    const serial = host.domains.get(id)?.serial ?? host.leftLogs.get(id);
    host.leftLogs.delete(id);
    if (!serial) return nothing;
    for (const reader of serial.readers) reader.end();
    Object.assign(serial, { earlier: '', text: '', readers: new Set() });
    return nothing;
  },
};
