/** Pools of files. What lies in one is kept as an image of Ceph's is: the rules of clones, snapshots and trash are the same to whoever asks. */
import type * as protocol from '../../../host-agent/protocol/files.ts';
import { LAYERS_MAX } from '../../../host-agent/protocol/files.ts';
import type { FileAddress, FileRoot } from '../../../host-agent/protocol.ts';
import { contentOf, findImage, type Image, type Pool } from '../ceph.ts';
import { refuse } from '../problem.ts';
import { type CallHandlers, type FilePool, type Host, nothing, type TaskHandlers } from './host.ts';
import { importInto } from './images.ts';
import { openFilePool } from './storage.ts';

const gib = 2 ** 30;
const totalBytes = 2 ** 40;

/** A local directory is another one on each host. */
const placeOf = (host: Host, root: FileRoot): string =>
  root.type === 'nfs' ? `${root.server}:${root.path}` : root.type === 'local' ? `${host.name}:${root.path}` : root.path;

const imageName = ({ of, id }: Pick<FileAddress, 'of' | 'id'>): string => `${of}-${id}`;
const volumeName = (id: string): string => imageName({ of: 'volume', id });

function findPool(host: Host, root: FileRoot): FilePool | undefined {
  const place = placeOf(host, root);
  return [...host.world.filePools.values()].find((pool) => pool.place === place);
}

const findVolume = (host: Host, poolId: string, id: string): Image =>
  findImage(openFilePool(host, poolId), volumeName(id));

const usedBytes = (pool: Pool): number => [...pool.images.values()].reduce((sum, image) => sum + image.sizeBytes, 0);

/** As many files as lie below an image: one for each snapshot, and those of what it was cloned from. */
function layersBelow({ snapshots, parent }: Image): number {
  return snapshots.size + (parent ? layersUpTo(parent) : 0);
}

/** The layer of a snapshot, and those below it. */
function layersUpTo({ image, name }: NonNullable<Image['parent']>): number {
  const before = [...image.snapshots.keys()].indexOf(name);
  return Math.max(1, before + 1) + (image.parent ? layersUpTo(image.parent) : 0);
}

function refuseHigher(layers: number, id: string): void {
  if (layers > LAYERS_MAX)
    throw refuse('NOT_SUPPORTED', `volume ${id} would have more than ${LAYERS_MAX} layers below it`);
}

function refuseOpen(image: Image | undefined): void {
  if (image && image.watchers.size > 0) throw refuse('INVALID_STATE', `${image.name} is open in a guest`, true);
}

/** Whether the guest that is named has it open on this host. */
const takesPart = (host: Host, image: Image, guest: string | undefined): boolean =>
  guest !== undefined && image.watchers.has(`${host.name}/${guest}`);

export const calls: CallHandlers<typeof protocol.calls> = {
  'files.ensureConnected'(host, { poolId, root, make }) {
    const there = findPool(host, root);
    if (there && there.name !== poolId)
      throw refuse('NAME_IN_USE', `${there.place} is the directory of pool ${there.name}`);
    if (!there && !make)
      throw refuse('PRECONDITION_FAILED', `${placeOf(host, root)} is not the directory of storage pool ${poolId}`);
    const pool: FilePool = there ?? {
      name: poolId,
      place: placeOf(host, root),
      deviceClass: null,
      replicas: 1,
      failureDomain: 'host',
      tags: null,
      madeBy: null,
      images: new Map(),
      parts: new Set(),
      trash: new Map(),
    };
    host.world.filePools.set(poolId, pool);
    host.filePools.add(poolId);
    return { totalBytes, usedBytes: usedBytes(pool) };
  },
  'files.ensureDisconnected'(host, { poolId }) {
    host.filePools.delete(poolId);
    return nothing;
  },
  'files.ensurePoolAbsent'(host, { poolId, root }) {
    const pool = findPool(host, root);
    if (pool?.name === poolId) {
      const held = pool.images.size - pool.parts.size + pool.trash.size;
      if (held > 0) throw refuse('INVALID_STATE', `Storage pool ${poolId} still holds ${held} files`);
      host.world.filePools.delete(poolId);
    }
    host.filePools.delete(poolId);
    return nothing;
  },
  'files.status': (host, { poolId }) => ({ totalBytes, usedBytes: usedBytes(openFilePool(host, poolId)) }),

  'files.ensureVolume'(host, { poolId, id, sizeGib, tags }) {
    host.world.ceph.ensureImage(openFilePool(host, poolId), volumeName(id), tags, sizeGib * gib, () => ({
      content: 'zeroes',
      parent: null,
    }));
    return nothing;
  },
  'files.ensureClone'(host, { poolId, id, from, sizeGib, tags }) {
    const pool = openFilePool(host, poolId);
    const source =
      'image' in from
        ? { pool, image: imageName({ of: 'image', id: from.image }), snapshot: 'base' }
        : { pool, image: volumeName(from.volume), snapshot: from.snapshot };
    const below = pool.images.get(source.image)?.snapshots.get(source.snapshot);
    if (below && !pool.images.has(volumeName(id))) refuseHigher(layersUpTo(below), id);
    host.world.ceph.ensureClone(pool, volumeName(id), tags, source, sizeGib);
    return nothing;
  },
  'files.ensureAbsent'(host, { poolId, of, id, onlyOperation }) {
    host.world.ceph.ensureImageAbsent(openFilePool(host, poolId), imageName({ of, id }), onlyOperation);
    return nothing;
  },
  'files.ensureSize'(host, { poolId, id, sizeGib, allowShrink }) {
    const image = findVolume(host, poolId, id);
    refuseOpen(image);
    host.world.ceph.ensureSize(image, sizeGib, allowShrink);
    return nothing;
  },
  'files.ensureSnapshot'(host, { poolId, id, snapshot, tags, guest }) {
    const image = findVolume(host, poolId, id);
    if (!image.snapshots.has(snapshot)) {
      if (!takesPart(host, image, guest)) refuseOpen(image);
      if (snapshot.startsWith('snap-')) refuseHigher(layersBelow(image) + 1, id);
    }
    host.world.ceph.ensureSnapshot(image, snapshot, tags);
    return nothing;
  },
  'files.ensureSnapshotAbsent'(host, { poolId, id, snapshot }) {
    host.world.ceph.ensureSnapshotAbsent(openFilePool(host, poolId), volumeName(id), snapshot);
    return nothing;
  },
  'files.rollBack'(host, { poolId, id, snapshot }) {
    const image = findVolume(host, poolId, id);
    refuseOpen(image);
    host.world.ceph.rollBack(image, snapshot);
    return nothing;
  },
  'files.ensureTrashed'(host, { poolId, id }) {
    const pool = openFilePool(host, poolId);
    refuseOpen(pool.images.get(volumeName(id)));
    host.world.ceph.ensureTrashed(pool, volumeName(id));
    return nothing;
  },
  'files.ensureRestored'(host, { poolId, id }) {
    host.world.ceph.ensureRestored(openFilePool(host, poolId), volumeName(id));
    return nothing;
  },
  'files.ensureExpunged'(host, { poolId, id }) {
    const pool = openFilePool(host, poolId);
    refuseOpen(pool.images.get(volumeName(id)));
    host.world.ceph.ensureExpunged(pool, volumeName(id));
    return nothing;
  },
  'files.inventory'(host, { poolId }) {
    const pool = openFilePool(host, poolId);
    const { images, trash } = host.world.ceph.inventory(pool);
    const parts = new Set([...pool.parts].map(({ name }) => name));
    return {
      files: images
        .filter(({ name }) => !parts.has(name))
        .map(({ name, sizeBytes, tags, snapshots }) => {
          const [, of, id = ''] = /^(volume|image|seed)-(.*)$/.exec(name) ?? [];
          return {
            of: of as FileAddress['of'],
            id,
            sizeBytes,
            tags,
            snapshots: snapshots.filter((snapshot) => snapshot !== 'base'),
          };
        }),
      trash: trash.map(({ name }) => name.replace(/^volume-/, '')),
      parts: [...parts].sort(),
    };
  },
  'files.ensureSeed'(host, { poolId, tags, instanceId, hostname, sshKeys, userData, userDataEncoding }) {
    const content = contentOf('seed', instanceId, hostname, ...sshKeys, userData ?? '', userDataEncoding);
    const pool = openFilePool(host, poolId);
    host.world.ceph.ensureImage(pool, imageName({ of: 'seed', id: instanceId }), tags, 2 ** 20, () => ({
      content,
      parent: null,
    })).content = content;
    return nothing;
  },
};

export const tasks: TaskHandlers<typeof protocol.tasks> = {
  'files.import': (host, { poolId, id, ...source }, run) =>
    importInto(host, openFilePool(host, poolId), imageName({ of: 'image', id }), source, run),
};
