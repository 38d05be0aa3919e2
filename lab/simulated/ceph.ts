/**
 * One Ceph cluster that all simulated hosts share: users, pools, RBD images with snapshots, clones, trash and watchers.
 *
 * It keeps librbd's rules (clone format 2): a removed snapshot that still has clones goes out of sight and vanishes with the
 * last of them; an image with clones below it can not be removed, only trashed; a watched image can not be removed or rolled back.
 */
import { createHash } from 'node:crypto';
import type { CephAccess, PoolInventory, Tags } from '../../host-agent/protocol.ts';
import { refuse } from './problem.ts';

const gib = 2 ** 30;

export interface Snapshot {
  name: string;
  sizeBytes: number;
  content: string;
  tags: Tags | null;
  protected: boolean;
  image: Image;
  clones: Set<Image>;
}

export interface Image {
  id: string;
  name: string;
  pool: Pool;
  sizeBytes: number;
  tags: Tags;
  /** Stands for the bytes: two images with the same content hold the same data. */
  content: string;
  parent: Snapshot | null;
  snapshots: Map<string, Snapshot>;
  /** Removed while clones lived on them. */
  hiddenSnapshots: Set<Snapshot>;
  /** In the trash only until the clones on its hidden snapshots are gone. */
  expunged: boolean;
  /** Holder → RADOS client address. */
  watchers: Map<string, string>;
}

export interface Pool {
  name: string;
  deviceClass: string | null;
  replicas: number;
  failureDomain: 'osd' | 'host';
  tags: Tags | null;
  madeBy: string | null;
  images: Map<string, Image>;
  /** Those of the images that are unfinished copies. */
  parts: Set<Image>;
  /** By image id: names may repeat. */
  trash: Map<string, Image>;
}

interface User {
  key: string;
  administrator: boolean;
  pools: Set<string>;
}

export interface PoolRecord {
  deviceClass: string | null;
  replicas: number;
  images: Record<string, ImageRecord>;
  trash: Record<string, ImageRecord>;
}

interface ImageRecord {
  sizeBytes: number;
  content: string;
  tags: Tags;
  parent: string | null;
  snapshots: Record<string, { sizeBytes: number; protected: boolean; clones: number }>;
  hiddenSnapshots: string[];
  watchers: string[];
}

export interface CephRecord {
  /** Addresses that are shut out. */
  fenced: string[];
  users: Record<string, string[]>;
  pools: Record<string, PoolRecord>;
}

export function recordOfPool({ deviceClass, replicas, images, trash }: Pool): PoolRecord {
  const byName = (found: Iterable<Image>) => {
    const sorted = [...found].sort((a, b) => compare(a.name, b.name) || compare(a.id, b.id));
    return Object.fromEntries(sorted.map((image) => [image.name, recordOf(image)]));
  };
  return { deviceClass, replicas, images: byName(images.values()), trash: byName(trash.values()) };
}

export const adminUser = 'admin';
const deviceClasses = ['nvme', 'ssd', 'hdd'];
const totalBytes = 2 ** 50;

export type CephCluster = ReturnType<typeof createCeph>;

/** `identity` decides fsid and keys, so that a simulator restarted on its port is the same cluster to those who remember it. */
export function createCeph(identity: string) {
  const fsid = digest('fsid', identity).replace(/^(.{8})(.{4}).(.{3}).(.{3})(.{12}).*$/, '$1-$2-4$3-8$4-$5');
  const monitors = ['127.0.0.1:6789'];
  const users = new Map<string, User>([
    [adminUser, { key: keyOf(identity, adminUser), administrator: true, pools: new Set() }],
  ]);
  const pools = new Map<string, Pool>();
  const fenced = new Set<string>();
  let lastImageId = 0;
  let lastUserId = 0;

  /** Throws unless the key opens this cluster. */
  function authenticate(access: CephAccess): User {
    if (access.fsid !== fsid)
      throw refuse(
        'PRECONDITION_FAILED',
        `The cluster at ${access.monitors.join(', ')} is ${fsid}, not ${access.fsid}`,
      );
    const user = users.get(access.user);
    if (!user || user.key !== access.key) throw refuse('PRECONDITION_FAILED', `Ceph refused client.${access.user}`);
    return user;
  }

  function administrate(access: CephAccess): void {
    if (!authenticate(access).administrator)
      throw refuse('PRECONDITION_FAILED', `client.${access.user} may not administrate the cluster`);
  }

  function ensureFenced(access: CephAccess, addresses: string[]): void {
    administrate(access);
    for (const address of addresses) fenced.add(address);
  }

  function ensureUnfenced(access: CephAccess, addresses: string[]): void {
    administrate(access);
    for (const address of addresses) fenced.delete(address);
  }

  /** As one may do by hand. */
  function letIn(address: string): void {
    fenced.delete(address);
  }

  function fencedAddresses(access: CephAccess): string[] {
    administrate(access);
    return [...fenced].sort();
  }

  function openPool(access: CephAccess, name: string): Pool {
    const user = authenticate(access);
    const pool = pools.get(name);
    if (!pool) throw refuse('NOT_FOUND', `There is no pool ${name}`);
    if (!user.administrator && !user.pools.has(name))
      throw refuse('PRECONDITION_FAILED', `client.${access.user} has no rights on pool ${name}`);
    return pool;
  }

  function status(access: CephAccess) {
    administrate(access);
    return {
      fsid,
      version: '16.2.15',
      health: 'ok' as const,
      totalBytes,
      usedBytes: sumBytes([...pools.values()]),
      osds: { total: 3, up: 3, in: 3 },
    };
  }

  function ensureUser(access: CephAccess, name: string, poolNames: string[]): { key: string } {
    administrate(access);
    const known = users.get(name);
    if (known?.administrator) throw refuse('NAME_IN_USE', `client.${name} is the cluster's administrator`);
    // Rights on a pool that is not there are fine with Ceph: they just lead nowhere.
    const user = known ?? {
      key: keyOf(identity, `${name} ${++lastUserId}`),
      administrator: false,
      pools: new Set<string>(),
    };
    user.pools = new Set(poolNames);
    users.set(name, user);
    return { key: user.key };
  }

  function ensureUserAbsent(access: CephAccess, name: string): void {
    administrate(access);
    if (users.get(name)?.administrator) throw refuse('NAME_IN_USE', `client.${name} is the cluster's administrator`);
    users.delete(name);
  }

  function ensurePool(
    access: CephAccess,
    wanted: { pool: string; deviceClass: string | null; replicas: number; failureDomain: 'osd' | 'host'; tags: Tags },
  ): { made: boolean } {
    administrate(access);
    const known = pools.get(wanted.pool);
    if (known) {
      if (known.tags && known.tags.id !== wanted.tags.id) throw foreign('pool', wanted.pool, known.tags);
      return { made: known.madeBy === wanted.tags.operation };
    }
    if (wanted.deviceClass !== null && !deviceClasses.includes(wanted.deviceClass))
      throw refuse('PRECONDITION_FAILED', `No OSD has the device class ${wanted.deviceClass}`);
    pools.set(wanted.pool, {
      name: wanted.pool,
      deviceClass: wanted.deviceClass,
      replicas: wanted.replicas,
      failureDomain: wanted.failureDomain,
      tags: wanted.tags,
      madeBy: wanted.tags.operation,
      images: new Map(),
      parts: new Set(),
      trash: new Map(),
    });
    return { made: true };
  }

  function ensurePoolAbsent(access: CephAccess, name: string, tags: Tags): void {
    administrate(access);
    const pool = pools.get(name);
    if (pool?.tags?.id !== tags.id) return;
    const held = pool.images.size + pool.trash.size;
    if (held > 0) throw refuse('INVALID_STATE', `Pool ${name} still holds ${held} images`);
    pools.delete(name);
    for (const user of users.values()) user.pools.delete(name);
  }

  function poolStatus(access: CephAccess, name: string) {
    const pool = openPool(access, name);
    const usedBytes = sumBytes([pool]);
    return { totalBytes, usedBytes, objects: Math.ceil(usedBytes / 2 ** 22) };
  }

  /** The image of that name, grown when it is smaller; made from what `make` answers when there is none. */
  function ensureImage(
    pool: Pool,
    name: string,
    tags: Tags,
    sizeBytes: number,
    make: () => { content: string; parent: Snapshot | null },
  ): Image {
    const known = pool.images.get(name);
    if (known) {
      if (known.tags.id !== tags.id) throw foreign('image', `${pool.name}/${name}`, known.tags);
      known.sizeBytes = Math.max(known.sizeBytes, sizeBytes);
      return known;
    }
    lastImageId += 1;
    const image: Image = {
      id: lastImageId.toString(16).padStart(12, '0'),
      name,
      pool,
      tags,
      sizeBytes,
      expunged: false,
      snapshots: new Map(),
      hiddenSnapshots: new Set(),
      watchers: new Map(),
      ...make(),
    };
    image.parent?.clones.add(image);
    pool.images.set(name, image);
    return image;
  }

  function ensureClone(
    pool: Pool,
    name: string,
    tags: Tags,
    source: { pool: Pool; image: string; snapshot: string },
    sizeGib: number,
  ): Image {
    return ensureImage(pool, name, tags, sizeGib * gib, () => {
      const parent = findSnapshot(findImage(source.pool, source.image), source.snapshot);
      if (sizeGib * gib < parent.sizeBytes)
        throw refuse('INVALID_ARGUMENT', `${sizeGib} GiB is less than the snapshot's ${parent.sizeBytes} bytes`);
      return { content: parent.content, parent };
    });
  }

  /**
   * Removes it with its snapshots, or throws and leaves everything as it was. One whose removed snapshots still have clones
   * waits in the trash for the last of them.
   */
  function removeImage(image: Image): void {
    if (image.watchers.size > 0) throw inUse(image);
    for (const { name, clones } of image.snapshots.values())
      if (clones.size > 0)
        throw refuse('INVALID_STATE', `${clones.size} clones live on ${image.pool.name}/${image.name}@${name}`);
    image.snapshots.clear();
    image.pool.parts.delete(image);
    if (image.pool.images.get(image.name) === image) image.pool.images.delete(image.name);
    if (image.hiddenSnapshots.size > 0) {
      image.expunged = true;
      image.pool.trash.set(image.id, image);
      return;
    }
    image.pool.trash.delete(image.id);
    leaveParent(image);
  }

  function leaveParent(image: Image): void {
    const parent = image.parent;
    if (!parent) return;
    image.parent = null;
    parent.clones.delete(image);
    if (parent.clones.size === 0) parent.image.hiddenSnapshots.delete(parent);
    if (parent.image.expunged && parent.image.hiddenSnapshots.size === 0) removeImage(parent.image);
  }

  /** With its unfinished copies: of the one operation, or of all. */
  function ensureImageAbsent(pool: Pool, name: string, onlyOperation?: string): void {
    const image = pool.images.get(name);
    if (image && (onlyOperation === undefined || image.tags.operation === onlyOperation)) removeImage(image);
    removeParts(pool, name, onlyOperation);
  }

  function removeParts(pool: Pool, name: string, onlyOperation?: string): void {
    if (onlyOperation !== undefined) {
      const part = pool.images.get(partName(name, onlyOperation));
      if (part) removeImage(part);
    } else {
      for (const part of [...pool.parts]) if (part.name.startsWith(partName(name, ''))) removeImage(part);
    }
  }

  function ensureSize(image: Image, sizeGib: number, allowShrink: boolean): void {
    const sizeBytes = sizeGib * gib;
    if (sizeBytes < image.sizeBytes && !allowShrink)
      throw refuse('INVALID_ARGUMENT', `${image.name} has ${image.sizeBytes} bytes and shrinks only when told so`);
    image.sizeBytes = sizeBytes;
  }

  function ensureSnapshot(image: Image, name: string, tags: Tags): Snapshot {
    const known = image.snapshots.get(name);
    if (known) {
      if (known.tags && known.tags.id !== tags.id) throw foreign('snapshot', `${image.name}@${name}`, known.tags);
      return known;
    }
    const { sizeBytes, content } = image;
    const snapshot = { name, sizeBytes, content, tags, protected: false, image, clones: new Set<Image>() };
    image.snapshots.set(name, snapshot);
    return snapshot;
  }

  function ensureSnapshotAbsent(pool: Pool, imageName: string, name: string): void {
    const trashed = [...pool.trash.values()].filter((image) => image.name === imageName);
    for (const image of [pool.images.get(imageName), ...trashed]) {
      const snapshot = image?.snapshots.get(name);
      if (!image || !snapshot) continue;
      image.snapshots.delete(name);
      if (snapshot.clones.size > 0) image.hiddenSnapshots.add(snapshot);
    }
  }

  function rollBack(image: Image, name: string): void {
    const snapshot = findSnapshot(image, name);
    if (image.watchers.size > 0) throw inUse(image);
    image.sizeBytes = snapshot.sizeBytes;
    image.content = snapshot.content;
  }

  /** The last one trashed under that name. */
  function inTrash(pool: Pool, name: string): Image | undefined {
    return [...pool.trash.values()].findLast((image) => image.name === name && !image.expunged);
  }

  function ensureTrashed(pool: Pool, name: string): void {
    const image = pool.images.get(name);
    if (!image) return;
    if (image.watchers.size > 0) throw inUse(image);
    pool.images.delete(name);
    pool.trash.set(image.id, image);
  }

  function ensureRestored(pool: Pool, name: string): void {
    if (pool.images.has(name)) return;
    const image = inTrash(pool, name);
    if (!image) throw refuse('NOT_FOUND', `Neither ${pool.name} nor its trash holds ${name}`);
    pool.trash.delete(image.id);
    pool.images.set(name, image);
  }

  function ensureExpunged(pool: Pool, name: string): void {
    const image = pool.images.get(name);
    if (image) removeImage(image);
    for (const trashed of [...pool.trash.values()]) if (trashed.name === name) removeImage(trashed);
    removeParts(pool, name);
  }

  /** An empty image for an unfinished copy; what an interrupted attempt of the operation left is thrown away. */
  function beginPart(pool: Pool, name: string, tags: Tags): Image {
    removeParts(pool, name, tags.operation);
    const part = ensureImage(pool, partName(name, tags.operation), tags, 0, () => ({ content: 'part', parent: null }));
    pool.parts.add(part);
    return part;
  }

  /** Gives a finished copy its name, as `rbd rename`: fails when the name is taken. */
  function finishPart(image: Image, name: string): void {
    if (!image.pool.parts.has(image))
      throw refuse('INVALID_STATE', `${image.pool.name}/${image.name} was thrown away meanwhile`, true);
    const taken = image.pool.images.get(name);
    if (taken) throw foreign('image', `${image.pool.name}/${name}`, taken.tags);
    image.pool.parts.delete(image);
    image.pool.images.delete(image.name);
    image.name = name;
    image.pool.images.set(name, image);
  }

  function inventory(pool: Pool): PoolInventory {
    return {
      images: [...pool.images.values()]
        .map((image) => ({
          name: image.name,
          sizeBytes: image.sizeBytes,
          tags: image.tags,
          snapshots: [...image.snapshots.keys()].sort(),
          watchers: image.watchers.size,
        }))
        .sort((a, b) => compare(a.name, b.name)),
      trash: [...pool.trash.values()]
        .map(({ id, name }) => ({ id, name }))
        .sort((a, b) => compare(a.name, b.name) || compare(a.id, b.id)),
    };
  }

  function record(): CephRecord {
    return {
      fenced: [...fenced].sort(),
      users: Object.fromEntries(
        [...users.entries()].sort(([a], [b]) => compare(a, b)).map(([name, user]) => [name, [...user.pools].sort()]),
      ),
      pools: Object.fromEntries(
        [...pools.values()].sort((a, b) => compare(a.name, b.name)).map((pool) => [pool.name, recordOfPool(pool)]),
      ),
    };
  }

  return {
    fsid,
    monitors,
    adminKey: users.get(adminUser)?.key ?? '',
    pools,
    authenticate,
    openPool,
    status,
    ensureFenced,
    ensureUnfenced,
    letIn,
    fencedAddresses,
    isFenced: (address: string) => fenced.has(address),
    ensureUser,
    ensureUserAbsent,
    ensurePool,
    ensurePoolAbsent,
    poolStatus,
    findImage,
    ensureImage,
    ensureClone,
    ensureImageAbsent,
    removeImage,
    ensureSize,
    ensureSnapshot,
    ensureSnapshotAbsent,
    rollBack,
    ensureTrashed,
    ensureRestored,
    ensureExpunged,
    beginPart,
    finishPart,
    inventory,
    record,
  };
}

export function findImage(pool: Pool, name: string): Image {
  const image = pool.images.get(name);
  if (!image) throw refuse('NOT_FOUND', `There is no image ${pool.name}/${name}`);
  return image;
}

/** Retryable: the holder may be about to let go. */
function inUse(image: Image): Error {
  const watchers = [...image.watchers.values()].join(', ');
  return refuse('INVALID_STATE', `${image.pool.name}/${image.name} is in use by ${watchers}`, true);
}

/** What an unfinished copy is called. */
export function partName(image: string, operation: string): string {
  return `${image}.part-${operation}`;
}

function findSnapshot(image: Image, name: string): Snapshot {
  const snapshot = image.snapshots.get(name);
  if (!snapshot) throw refuse('NOT_FOUND', `There is no snapshot ${image.pool.name}/${image.name}@${name}`);
  return snapshot;
}

function recordOf(image: Image): ImageRecord {
  const { parent } = image;
  return {
    sizeBytes: image.sizeBytes,
    content: image.content,
    tags: image.tags,
    parent: parent && `${parent.image.pool.name}/${parent.image.name}@${parent.name}`,
    snapshots: Object.fromEntries(
      [...image.snapshots.values()]
        .sort((a, b) => compare(a.name, b.name))
        .map((snapshot) => [
          snapshot.name,
          { sizeBytes: snapshot.sizeBytes, protected: snapshot.protected, clones: snapshot.clones.size },
        ]),
    ),
    hiddenSnapshots: [...image.hiddenSnapshots].map((snapshot) => snapshot.name).sort(),
    watchers: [...image.watchers.keys()].sort(),
  };
}

/** Refuses to touch what another record owns. */
export function foreign(kind: string, name: string, owner: Partial<Tags>): Error {
  return refuse('NAME_IN_USE', `The ${kind} ${name} belongs to ${owner.kind ?? 'something'} ${owner.id ?? 'unknown'}`);
}

/** A stand-in for bytes: equal input, equal content. */
export function contentOf(...parts: string[]): string {
  return digest(...parts).slice(0, 16);
}

export function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function digest(...parts: string[]): string {
  return createHash('sha256').update(parts.join('\n')).digest('hex');
}

function keyOf(identity: string, user: string): string {
  // The layout of a cephx key: type 1, creation time (here none), length 16, 16 bytes.
  const head = Buffer.from([1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0]);
  return Buffer.concat([head, Buffer.from(digest('key', identity, user), 'hex').subarray(0, 16)]).toString('base64');
}

function sumBytes(of: Pool[]): number {
  let bytes = 0;
  for (const pool of of) for (const image of pool.images.values()) bytes += image.parent ? 0 : image.sizeBytes;
  return bytes;
}
