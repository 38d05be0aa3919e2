/** What storage can be asked for, whatever the pool is made of. One driver for each type of pool; `index.ts` has the table of them. */
import type { HostInStep } from '../../../host-agent/connection.ts';
import type { Calls, DiskSource, Tags, Tasks } from '../../../host-agent/protocol.ts';
import type { PoolType } from '../../../model/storage/poolTypes.ts';
import type { World } from '../../world.ts';

/** A pool as its record has it. Columns that other types of pool have stand empty. */
export interface Pool {
  id: string;
  type: PoolType;
  revision: number;
  state: string;
  zoneId: string | null;
  clusterIds: string[];
  /** Of a pool on the disks of one host: no other one reaches it. */
  hostId: string | null;
  madeByPlatform: boolean;
  /** Of type rbd. */
  storageClusterId: string | null;
  pool: string | null;
  deviceClass: string | null;
  replicas: number;
  failureDomain: string;
  /** Of pools of files. */
  source: { server?: string; path: string } | null;
  /** Null while it is not there. */
  capacity: unknown;
}

/** What lies in a pool. Its name there follows from the id alone, so that an undo never needs the result of its do. */
export interface PoolObject {
  of: 'volume' | 'image' | 'seed';
  id: string;
}

/** What was found in a pool. Anybody may have written the tags. */
export interface Inventory {
  objects: (PoolObject & { trashed: boolean; operation: string | undefined })[];
  totalBytes: number;
  usedBytes: number;
}

export interface Content {
  sizeGib: number;
  tags: Tags;
}

/** What a volume begins as: the cached copy of an image in the same pool, or a snapshot, which may lie in another one. */
export type Origin = { imageId: string } | { snapshotId: string; volumeId: string; pool: Pool };

export type Seed = Pick<
  Calls['seed.ensure']['input'],
  'tags' | 'instanceId' | 'hostname' | 'sshKeys' | 'userData' | 'userDataEncoding'
>;

export type ImageSource = Pick<Tasks['image.import']['input'], 'url' | 'format' | 'sha256' | 'tags'>;

/** What a host must know to open a guest's disks as itself. */
export type DiskAccess = Pick<Tasks['domain.migrate']['input'], 'cephUsers' | 'sharedPools'>;

interface Patience {
  signal?: AbortSignal;
  timeoutMs?: number;
}

/**
 * All of it may be asked for twice, and *absent* of what was never there. `agent` is a host that reaches the pool; a volume in use is worked on at
 * the host of its guest.
 */
export interface StorageDriver {
  /** As a guest's host opens it. */
  source(pool: Pool, object: PoolObject): DiskSource;

  ensureBlank(agent: HostInStep, pool: Pool, volumeId: string, content: Content): Promise<void>;
  ensureClone(agent: HostInStep, pool: Pool, volumeId: string, content: Content & { from: Origin }): Promise<void>;
  ensureSeed(agent: HostInStep, pool: Pool, seed: Seed): Promise<void>;
  /** With `onlyOperation` only what that operation has made. @throws INVALID_STATE while something lives on it */
  ensureAbsent(
    agent: HostInStep,
    pool: Pool,
    object: PoolObject,
    options?: Patience & { onlyOperation?: string },
  ): Promise<void>;
  /** Out of sight, and back. */
  ensureTrashed(agent: HostInStep, pool: Pool, volumeId: string): Promise<void>;
  ensureRestored(agent: HostInStep, pool: Pool, volumeId: string): Promise<void>;
  /** For good, from the trash or from the pool. */
  ensureExpunged(agent: HostInStep, pool: Pool, volumeId: string, patience: Patience): Promise<void>;
  /** Of a volume that is not in use. Shrinks only with `allowShrink`. */
  ensureSize(
    agent: HostInStep,
    pool: Pool,
    volumeId: string,
    size: { sizeGib: number; allowShrink: boolean },
  ): Promise<void>;

  /** `instanceId` is the guest that runs with the volume, when there is one. */
  ensureSnapshot(
    agent: HostInStep,
    pool: Pool,
    volumeId: string,
    snapshot: { name: string; tags: Tags; instanceId?: string | undefined },
  ): Promise<void>;
  ensureSnapshotAbsent(
    agent: HostInStep,
    pool: Pool,
    volumeId: string,
    snapshot: { name: string; instanceId?: string | undefined },
  ): Promise<void>;
  rollBack(agent: HostInStep, pool: Pool, volumeId: string, name: string, patience: Patience): Promise<void>;

  /** The copy of an image from which volumes are cloned. */
  importImage(
    agent: HostInStep,
    pool: Pool,
    imageId: string,
    task: { id: string; source: ImageSource; signal: AbortSignal },
  ): Promise<void>;
  /** Ends an import that may be under way, and removes what it has left. Answers whether it had succeeded before: then the copy stays. */
  cancelImport(
    agent: HostInStep,
    pool: Pool,
    imageId: string,
    task: { id: string; operationId: string },
  ): Promise<boolean>;
  /** The ids of the images that the pool has copies of. */
  cachedImages(agent: HostInStep, pool: Pool): Promise<string[]>;

  /** All that is ours there, and how full it is. */
  inventory(world: World, agent: HostInStep, pool: Pool): Promise<Inventory>;

  /** The pool itself, made or adopted, through one host. */
  ensurePool(
    world: World,
    pool: Pool,
    hostId: string,
    tags: Tags,
  ): Promise<{ made: boolean; totalBytes: number; usedBytes: number }>;
  /** Removes one that carries this record's tag, and holds nothing. */
  ensurePoolAbsent(world: World, pool: Pool, hostId: string, tags: Tags): Promise<void>;
  /** Any host that can do the above when none that reaches the pool is connected; null when there is none. */
  administrator(world: World, pool: Pool): Promise<string | null>;
  /** A host's way to the pool, as the records say: there while the pool is and the host's cluster reaches it. */
  alignHost(world: World, pool: Pool, hostId: string): Promise<void>;

  /** A host's way to all pools of this type. */
  connectHost(world: World, host: { id: string; zoneId: string | null }): Promise<void>;
  /** Takes it from the host, which answers. */
  disconnectHost(world: World, host: { id: string; zoneId: string | null }): Promise<void>;
  /** Takes it from a host that is lost, from outside. */
  disownHost(world: World, host: { id: string; zoneId: string | null }): Promise<void>;
  /** From outside: when this answers, whatever the host still sends to pools of this type is refused, as far as they can refuse it. */
  fenceHost(world: World, host: { id: string; zoneId: string | null }): Promise<void>;
  unfenceHost(world: World, host: { id: string; zoneId: string | null }): Promise<void>;
  /** Whether that is so, as another host is told. */
  isFenced(world: World, host: { id: string; zoneId: string | null }, atHand: string): Promise<boolean>;
  /** The addresses at which a volume is open, as a host is told; none where the pool does not know. */
  openAt(world: World, volume: { id: string; pool: Pool }, atHand: string): Promise<string[]>;
  /** The host writes to what it reaches. */
  proveWritable(world: World, host: { id: string; zoneId: string | null }): Promise<void>;
  /** To disks in these pools, all of this type. */
  diskAccess(world: World, hostId: string, pools: Pool[]): Promise<Partial<DiskAccess>>;
}
