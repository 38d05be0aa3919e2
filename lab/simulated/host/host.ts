/** One simulated host: what it was configured with, the domains it defines and runs, and who works on it. What can be asked of it is in the other files. */
import { randomUUID } from 'node:crypto';
import { type AgentClock, agentClock } from '../../../host-agent/clock.ts';
import { createFence, type Fence } from '../../../host-agent/fence.ts';
import { simulatedIp } from '../../../host-agent/peerAddress.ts';
import type { AnyCall, Signature } from '../../../host-agent/protocol/call.ts';
import type {
  Calls,
  CephAccess,
  DomainSpec,
  DomainState,
  HostEvent,
  Task,
  Tasks,
} from '../../../host-agent/protocol.ts';
import type { BmcMishap } from '../../redfish.ts';
import type { CephCluster, Pool } from '../ceph.ts';

export interface WorldSettings {
  vcpusPerHost: number;
  memoryMibPerHost: number;
  vcpuOvercommit: number;
  bootMs: number;
  shutDownMs: number;
  migrationMs: number;
  rebootMs: number;
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
export interface HostWorld {
  settings: WorldSettings;
  ceph: CephCluster;
  /** By id. */
  filePools: Map<string, FilePool>;
  network: NetworkControl;
  /** By name; made when first spoken to. */
  hosts: Map<string, Host>;
  /** Which host leaves heartbeats under an id. */
  heartbeats: Map<string, Host>;
  /** Which host runs a domain. */
  running: Map<string, Host>;
  /** Which hosts run a domain with that interface; during a migration both. */
  interfaces: Map<string, Set<Host>>;
  /** Ends every connection to a host without an answer. */
  cutAll(host: Host): void;
  /** Undefined when no such host was declared. */
  findHost(name: string): Host | undefined;
  /** By the migration address it was configured with, when no other host has that too. */
  findHostAt(address: string): Host | undefined;
}

export interface FilePool extends Pool {
  /** The directory, as all hosts that see the same one name it. */
  place: string;
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

export interface LiveTask {
  task: Task;
  abort: AbortController;
  /** Resolved at every change of state or progress. */
  watchers: Set<() => void>;
}

/** A guest on its way to another host. */
export interface Migration {
  abort: AbortController;
  watchers: Set<(percent: number) => void>;
  ended: Promise<Tasks['domain.migrate']['result']>;
}

export interface Host {
  name: string;
  ip: string;
  world: HostWorld;
  /** Whether the control plane gets through to it; a frozen one takes every connection and says nothing. */
  connection: 'up' | 'partitioned' | 'crashed' | 'frozen';
  /** Its BMC switches it. Who is off has crashed. */
  isPowered: boolean;
  /** What is wrong with its BMC. */
  bmcMishap: BmcMishap | undefined;
  /** What else it does not get through to. */
  cutFrom: Set<'peers' | 'storage' | 'hypervisor'>;
  /** In this process's clock. */
  storageCutAt: number | null;
  /** On the host's disk, as the fence is. */
  heartbeat: Calls['heartbeat.ensure']['input'] | null;
  /** Of its agent. */
  bootId: string;
  machineLife: string;
  clock: AgentClock;
  sequence: number;
  kvm: boolean | null;
  domains: Map<string, Domain>;
  clusters: Map<string, CephAccess>;
  /** Ids of the pools of files that it is connected to. */
  filePools: Set<string>;
  hypervisor: Calls['hypervisor.ensureConfigured']['input'] | null;
  switch: Calls['switch.ensureConfigured']['input'] | null;
  /** Bridges by the physical networks that are led through them. */
  mappings: Map<string, string>;
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

export function createHost(world: HostWorld, name: string): Host {
  const bootId = randomUUID();
  return {
    name,
    ip: simulatedIp(name),
    world,
    connection: 'up',
    isPowered: true,
    bmcMishap: undefined,
    cutFrom: new Set(),
    storageCutAt: null,
    heartbeat: null,
    bootId,
    machineLife: randomUUID(),
    clock: agentClock(bootId),
    sequence: 0,
    kvm: null,
    domains: new Map(),
    clusters: new Map(),
    filePools: new Set(),
    hypervisor: null,
    switch: null,
    mappings: new Map(),
    tasks: new Map(),
    migrations: new Map(),
    fence: createFence(),
    listeners: new Set(),
    leftLogs: new Map(),
    claimedVcpus: 0,
    claimedMemoryMib: 0,
  };
}

/** A new life of the agent: streams end, tasks are lost, numbering starts anew. A migration is libvirt's, and goes on. */
export function renewAgent(host: Host): void {
  host.bootId = randomUUID();
  host.clock = agentClock(host.bootId);
  host.sequence = 0;
  for (const { task, abort } of host.tasks.values()) if (task.name !== 'domain.migrate') abort.abort();
  host.tasks.clear();
}

/** What serves an area of the protocol: exactly its calls. */
export type CallHandlers<Declared extends Record<string, AnyCall>> = {
  [Name in keyof Declared]: (
    host: Host,
    input: Signature<Declared[Name]>['input'],
  ) => Signature<Declared[Name]>['result'] | Promise<Signature<Declared[Name]>['result']>;
};

/** What a task is told, and tells, while it runs. */
export interface Run {
  signal: AbortSignal;
  progress(percent: number): void;
}

export type TaskHandlers<Declared extends Record<string, AnyCall>> = {
  [Name in keyof Declared]: (
    host: Host,
    input: Signature<Declared[Name]>['input'],
    run: Run,
  ) => Promise<Signature<Declared[Name]>['result']>;
};

/** The answer of those that answer nothing. */
export const nothing = {};
