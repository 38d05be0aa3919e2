/**
 * What a worker may ask of a host. Real agents and simulated hosts speak exactly this.
 *
 * HTTP with JSON bodies, on a unix socket behind SSH (real) or a path prefix of one port (simulated):
 *
 *     POST   /v1/calls/<name>          input            → 200 result | 4xx/5xx AgentProblem
 *     PUT    /v1/tasks/<taskId>        { name, input }  → 200 Task; starts it, or attaches to the one that has this id
 *     GET    /v1/tasks/<taskId>?waitSeconds=20          → 200 Task; answers early when it ends or its progress changes
 *     DELETE /v1/tasks/<taskId>                         → 200 Task; cancels, answers when it has ended
 *     GET    /v1/events?clock=true                      → 200 stream of HostEvent, one JSON object per line; empty lines are signs of life
 *     GET    /v1/domains/<id>/serial?follow=true        → 200 stream of the raw serial log; it ends when the guest has left
 *                               &arrived=true           only what it says here, for those who followed it here
 *     GET    /v1/health                                 → 200 AgentHealth
 *
 * A call that changes something, and every PUT and DELETE of a task, says in two headers on whose behalf it comes (`stamp.ts`): of which
 * lease, and of which try of which step. One that is older than what the host has seen is refused with SUPERSEDED, also after the
 * agent was started anew; one that does not say it is refused with INVALID_ARGUMENT. Questions need not say it; where they do, they are
 * refused alike. A stream of events with a lease ends when a newer lease of its shard appears.
 *
 * Every answer tells what the agent's clock says (`belay-clock`), and a stream of events that was asked for with `?clock=true` does with each sign
 * of life. What changes something says in a third header until when it may be acted on, by that clock; afterwards, or by another life of the
 * agent, it is refused with SUPERSEDED.
 *
 * Every call is declarative: "ensure it is so", "ensure it is not". It may arrive twice, and it may arrive when the opposite
 * never happened. An ensure that finds a foreign object under its name (other `tags.id`) answers NAME_IN_USE and touches nothing.
 * Sizes: GiB are integers of 2^30 bytes, MiB of 2^20.
 */

/** Leads an object on a real system back to its record, and to the operation that made it. */
export interface Tags {
  id: string;
  kind: string;
  operation: string;
  revision: number;
  projectId?: string;
}

/** How to reach a Ceph cluster with one user's rights. `key` is a secret: never logged, never kept by a workflow. */
export interface CephAccess {
  storageClusterId: string;
  monitors: string[];
  fsid: string;
  /** Without the `client.` prefix. */
  user: string;
  key: string;
}

/** A pool of a storage cluster that this host was connected to by `storage.connect`. */
export interface PoolAddress {
  storageClusterId: string;
  pool: string;
}

export interface ImageAddress extends PoolAddress {
  image: string;
}

export interface DiskSpec extends ImageAddress {
  volumeId: string;
  readOnly: boolean;
  /** The boot disk comes first. */
  boot: boolean;
  qos?: { readIops?: number; writeIops?: number; readBytesPerSec?: number; writeBytesPerSec?: number };
}

export interface InterfaceSpec {
  /** Network interface id; is the logical port's name in OVN and the `iface-id` of the tap. */
  id: string;
  mac: string;
  mtu: number;
}

/** An instance as its host must run it. The agent adds what only the host knows: KVM or emulation, checksum offload. */
export interface DomainSpec {
  id: string;
  tags: Tags;
  hostname: string;
  vcpus: number;
  memoryMib: number;
  firmware: 'bios' | 'uefi';
  disks: DiskSpec[];
  /** The NoCloud seed image, made by `seed.ensure`. */
  seed: ImageAddress | null;
  interfaces: InterfaceSpec[];
}

export type DomainState = 'absent' | 'off' | 'running' | 'paused' | 'crashed';

export interface DomainStatus {
  state: DomainState;
  /** libvirt's reason word, such as `shutdown`, `destroyed`, `crashed`, `migrated`, `ioerror`. */
  reason: string;
}

export interface HostFacts {
  hostname: string;
  machineId: string;
  os: string;
  kernel: string;
  architecture: 'x86_64' | 'aarch64';
  cpuModel: string;
  vcpus: number;
  memoryMib: number;
  disks: { name: string; sizeBytes: number; rotational: boolean }[];
  interfaces: { name: string; mac: string; mtu: number; addresses: string[] }[];
  /** A guest really booted with KVM; null until `host.probe` has run. */
  kvm: boolean | null;
  /** Whether Open vSwitch's kernel datapath exists; without it the userspace datapath carries the packets. */
  kernelDatapath: boolean;
  versions: { agent: string; libvirt: string; qemu: string; ovs: string; ovn: string; ceph: string; node: string };
}

/** All tagged things a host or a pool holds, for the auditor and the tests. */
export interface HostInventory {
  domains: { id: string; state: DomainState; tags: Tags | null }[];
  /** Interfaces on br-int that carry an iface-id. */
  ports: { name: string; interfaceId: string }[];
  /** libvirt secrets and configuration files that Belay placed. */
  secrets: string[];
  files: string[];
  tasks: string[];
}

export interface PoolInventory {
  images: { name: string; sizeBytes: number; tags: Partial<Tags>; snapshots: string[]; watchers: number }[];
  trash: { id: string; name: string }[];
}

export interface HostMetrics {
  cpuSeconds: number;
  cpuCount: number;
  memoryTotalBytes: number;
  memoryAvailableBytes: number;
  load1: number;
  networkReceivedBytes: number;
  networkSentBytes: number;
  domains: {
    id: string;
    cpuSeconds: number;
    memoryBytes: number;
    readBytes: number;
    writtenBytes: number;
    readOperations: number;
    writeOperations: number;
    receivedBytes: number;
    sentBytes: number;
  }[];
}

/** Changes something on the host or on what it reaches: only a step may make it, and it is stamped. */
interface Call<Input, Result = Record<string, never>> {
  input: Input;
  result: Result;
  changes: true;
}

/** Changes nothing: whoever has a way to the host may ask. */
interface Question<Input, Result> {
  input: Input;
  result: Result;
  changes: false;
}

export type Nothing = Record<string, never>;

/** One request, one answer; each well under its caller's step deadline. */
export interface Calls {
  'host.facts': Question<Nothing, HostFacts>;
  'host.inventory': Question<Nothing, HostInventory>;
  'host.metrics': Question<Nothing, HostMetrics>;

  /** libvirt's settings and the certificates that encrypt and authenticate migration; restarts libvirtd when they changed. */
  'hypervisor.ensureConfigured': Call<{
    caCertificate: string;
    certificate: string;
    privateKey: string;
    migrationAddress: string;
  }>;
  /** Puts back the files as they were before `hypervisor.ensureConfigured`. */
  'hypervisor.ensureUnconfigured': Call<Nothing>;

  /** Open vSwitch's link to OVN. `systemId` becomes the chassis name. */
  'switch.ensureConfigured': Call<{
    systemId: string;
    ovnRemote: string;
    encapsulation: 'geneve' | 'vxlan';
    encapAddress: string;
    integrationBridge: string;
    /** What the host shows to OVN, and whose servers it trusts; null where OVN is reached in clear. The key is a secret. */
    tls: { caCertificate: string; certificate: string; privateKey: string } | null;
  }>;
  'switch.ensureUnconfigured': Call<Nothing>;

  /** ceph.conf, keyring and libvirt secret (uuid = storageClusterId) for one cluster. */
  'storage.ensureConnected': Call<CephAccess>;
  'storage.ensureDisconnected': Call<{ storageClusterId: string }>;

  /** Cluster administration, with the administrator's key in the request and nowhere else. */
  'ceph.status': Question<
    { access: CephAccess },
    {
      fsid: string;
      version: string;
      health: 'ok' | 'warn' | 'error';
      totalBytes: number;
      usedBytes: number;
      osds: { total: number; up: number; in: number };
    }
  >;
  /** A user with `profile rbd` on the named pools only. Answers its key; the same user keeps its key. */
  'ceph.ensureUser': Call<{ access: CephAccess; user: string; pools: string[] }, { key: string }>;
  'ceph.ensureUserAbsent': Call<{ access: CephAccess; user: string }>;
  /** CRUSH rule by device class, pool with the rbd application. `made` says whether this operation made it. */
  'ceph.ensurePool': Call<
    {
      access: CephAccess;
      pool: string;
      deviceClass: string | null;
      replicas: number;
      failureDomain: 'osd' | 'host';
      tags: Tags;
    },
    { made: boolean }
  >;
  /** Removes the pool (and a rule of its own) only when it carries this `tags.id` and holds no image. */
  'ceph.ensurePoolAbsent': Call<{ access: CephAccess; pool: string; tags: Tags }>;
  'ceph.poolStatus': Question<
    { access: CephAccess; pool: string },
    { totalBytes: number; usedBytes: number; objects: number }
  >;

  'rbd.ensureImage': Call<ImageAddress & { sizeGib: number; tags: Tags }>;
  /** Copy-on-write clone of a snapshot, grown to `sizeGib`. */
  'rbd.ensureClone': Call<
    ImageAddress & { from: { pool: string; image: string; snapshot: string }; sizeGib: number; tags: Tags }
  >;
  /** Removes the image with all its snapshots that have no clone. `onlyOperation`: only if it carries that operation's tag. */
  'rbd.ensureImageAbsent': Call<ImageAddress & { onlyOperation?: string }>;
  /** Grows; shrinks only with `allowShrink` (the undo of a growth that nobody used). */
  'rbd.ensureSize': Call<ImageAddress & { sizeGib: number; allowShrink: boolean }>;
  'rbd.ensureSnapshot': Call<ImageAddress & { snapshot: string; tags: Tags }>;
  /** While clones live on it, Ceph keeps its data out of sight until the last of them goes. */
  'rbd.ensureSnapshotAbsent': Call<ImageAddress & { snapshot: string }>;
  'rbd.rollBack': Call<ImageAddress & { snapshot: string }>;
  /** Moves the image into the pool's trash under its own name, and back. Idempotent both ways. */
  'rbd.ensureTrashed': Call<ImageAddress>;
  'rbd.ensureRestored': Call<ImageAddress>;
  /** Removes it for good, from the trash or from the pool. */
  'rbd.ensureExpunged': Call<ImageAddress>;
  'rbd.watchers': Question<ImageAddress, { addresses: string[] }>;
  'rbd.inventory': Question<PoolAddress, PoolInventory>;

  /** NoCloud seed as an RBD image of ISO 9660, label `cidata`. User data is a secret of the tenant. */
  'seed.ensure': Call<
    ImageAddress & {
      tags: Tags;
      instanceId: string;
      hostname: string;
      sshKeys: string[];
      userData: string | null;
      /** base64: user data stands for bytes, which are what the guest finds. */
      userDataEncoding: 'plain' | 'base64';
    }
  >;

  'domain.ensureDefined': Call<DomainSpec>;
  'domain.ensureRunning': Call<{ id: string }>;
  /** Pulls the plug; the definition stays. */
  'domain.ensureOff': Call<{ id: string }>;
  /** Stops and undefines. */
  'domain.ensureAbsent': Call<{ id: string }>;
  'domain.reset': Call<{ id: string }>;
  'domain.status': Question<{ id: string }, DomainStatus>;
  /**
   * Nothing takes this domain away from here any more: a migration under way is aborted in libvirt itself, whoever began it and whether or
   * not this agent remembers. Answers when it has come to rest, with what is here then; `absent` when it had gone over before. TIMEOUT
   * when it does not come to rest.
   */
  'domain.ensureNotMigrating': Call<{ id: string }, DomainStatus>;
  /** In the running domain and in its definition; for a stopped one in the definition only. */
  'domain.ensureDisk': Call<{ id: string; disk: DiskSpec }>;
  /** Asks the guest to release it and waits until it is gone and no watcher of this host is left. */
  'domain.ensureDiskAbsent': Call<{
    id: string;
    volumeId: string;
    /** Fails with NOT_FOUND where the guest is not: it may run elsewhere and hold the disk there. An undo bears that it is gone. */
    mustBeThere: boolean;
  }>;
  /** Block resize inside QEMU, which grows the RBD image too. */
  'domain.growDisk': Call<{ id: string; volumeId: string; sizeGib: number }>;
  /** `frozen` is false when no guest agent answers. */
  'domain.freeze': Call<{ id: string }, { frozen: boolean }>;
  'domain.thaw': Call<{ id: string }>;
  /** The last part of the serial log, at most `bytes` (≤ 1 MiB). */
  'domain.serialLog': Question<{ id: string; bytes: number }, { text: string }>;
  /** What the guest said on hosts before this one: told ahead of its log here. */
  'domain.ensureEarlierSerialLog': Call<{ id: string; text: string }>;
  /** The guest has left: who follows its log gets the rest, and the stream ends. */
  'domain.ensureSerialLogAbsent': Call<{ id: string }>;
}

/** Long work with an id of the caller's: a retried request attaches to the running one. */
export interface Tasks {
  /** Packages' versions, disks, datapath, and a guest really booted with KVM (bounded, 20 s). */
  'host.probe': Call<Nothing, HostFacts>;
  /** Guest shutdown by ACPI or guest agent; fails with TIMEOUT and leaves the guest as it is. */
  'domain.shutDown': Call<{ id: string; timeoutSeconds: number }>;
  /** ACPI reboot; falls back to nothing. */
  'domain.reboot': Call<{ id: string; timeoutSeconds: number }>;
  /**
   * Fetches a disk image over HTTP, checks sha256 and format (no backing file, no data file), writes it as raw into
   * `<image>.part-<operation>`, renames it to `image`, snapshots `base` and protects it. Already there: nothing happens.
   */
  'image.import': Call<
    ImageAddress & { url: string; format: 'raw' | 'qcow2'; sha256: string; tags: Tags },
    { virtualSizeBytes: number }
  >;
  /**
   * Live migration over libvirt's TLS to another agent's host; cancelling it leaves the guest running here. `cephUsers` are the
   * target's own, by storage cluster: each host opens images as itself.
   */
  'domain.migrate': Call<
    {
      id: string;
      targetAddress: string;
      cephUsers: Record<string, string>;
      bandwidthBytesPerSec: number | null;
      autoConverge: boolean;
    },
    { downtimeMs: number; totalMs: number; transferredBytes: number }
  >;
}

export type CallName = keyof Calls;
export type TaskName = keyof Tasks;
export type QuestionName = { [Name in CallName]: Calls[Name]['changes'] extends false ? Name : never }[CallName];

const questions = {
  'host.facts': true,
  'host.inventory': true,
  'host.metrics': true,
  'ceph.status': true,
  'ceph.poolStatus': true,
  'rbd.watchers': true,
  'rbd.inventory': true,
  'domain.status': true,
  'domain.serialLog': true,
} satisfies { [Name in QuestionName]: true };

/** Everything else changes something. */
export const isQuestion = (name: CallName): name is QuestionName => Object.hasOwn(questions, name);

export interface Task<Name extends TaskName = TaskName> {
  id: string;
  name: Name;
  state: 'running' | 'succeeded' | 'failed' | 'cancelled';
  /** 0–100. */
  progress: number;
  result?: Tasks[Name]['result'];
  problem?: AgentProblem;
}

/** Codes of the product's error table that a host may answer, with their HTTP status. */
export const AGENT_PROBLEM_STATUS = {
  INVALID_ARGUMENT: 422,
  NOT_FOUND: 404,
  NAME_IN_USE: 409,
  NO_CAPACITY: 409,
  INVALID_STATE: 409,
  NOT_SUPPORTED: 409,
  PRECONDITION_FAILED: 412,
  SUPERSEDED: 409,
  BACKEND_UNAVAILABLE: 503,
  TIMEOUT: 504,
  INTERNAL: 500,
} as const;

/** `retryable` false means that trying again can not help. */
export interface AgentProblem {
  code: keyof typeof AGENT_PROBLEM_STATUS;
  message: string;
  retryable: boolean;
}

/** Between two signs of life on a stream of events. */
export const BEAT_SECONDS = 2;

/** What a guest or libvirt did by itself. `sequence` rises by one within `bootId`. */
export interface HostEvent {
  bootId: string;
  sequence: number;
  at: string;
  type: 'domain.started' | 'domain.stopped' | 'domain.crashed' | 'domain.paused' | 'domain.resumed' | 'hello';
  /** For `hello`, the first line of each stream: every domain and its state now. */
  domains?: { id: string; state: DomainState; reason: string }[];
  /** For `hello`: an empty line comes at least so often, as a sign of life. Absent from agents that send none. */
  beatSeconds?: number;
  domainId?: string;
  reason?: string;
}

export interface AgentHealth {
  agent: string;
  bootId: string;
  hostname: string;
  libvirt: boolean;
  switch: boolean;
}
