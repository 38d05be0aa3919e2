/** Pools of Ceph: volumes are RBD images, snapshots are Ceph's, and what is made from one is a copy-on-write clone. */
import { clientsOf } from '../../../database/fence.ts';
import { from, statement, type Values } from '../../../database/statement.ts';
import { AgentError } from '../../../host-agent/agentError.ts';
import type { HostInStep } from '../../../host-agent/connection.ts';
import type { ImageAddress, PoolAddress } from '../../../host-agent/protocol.ts';
import { addressOfWatcher } from '../../../host-agent/watcher.ts';
import { refuse, tryAgain } from '../../failure.ts';
import type { World } from '../../world.ts';
import { adminAccess, alignAccess, anyHostOfZone, cephUser, cephUsers, poolsOf, revokeAccess } from '../cephAccess.ts';
import { zoneAgent, zoneAgentBeside } from '../poolHost.ts';
import type { Pool, PoolObject, StorageDriver } from './driver.ts';

/** The snapshot of a cached image that clones are made of. */
const baseSnapshot = 'base';

function placeOf({ id, storageClusterId, pool }: Pool): PoolAddress {
  if (!storageClusterId || !pool) throw refuse('INVALID_STATE', `storage pool ${id} is in no storage cluster`);
  return { storageClusterId, pool };
}
const nameOf = ({ of, id }: PoolObject): string => `${of}-${id}`;
/** The other way round; undefined of what is no whole object of ours. */
function objectNamed(image: string): PoolObject | undefined {
  const [, of, id] = /^(volume|image|seed)-([0-9a-f-]{36})$/.exec(image) ?? [];
  return of && id ? { of: of as PoolObject['of'], id } : undefined;
}
const addressOf = (pool: Pool, object: PoolObject): ImageAddress => ({ ...placeOf(pool), image: nameOf(object) });
const volumeAt = (pool: Pool, id: string): ImageAddress => addressOf(pool, { of: 'volume', id });

const readyClusters = statement((p: Values<{ zoneId: string | null }>) =>
  from
    .selectFrom('storageCluster')
    .select('id')
    .where('zoneId', '=', p.zoneId)
    .where('state', '=', 'ready')
    .where('deletedAt', 'is', null)
    .orderBy('id'),
);

/** Storage clusters that hosts of a zone may be connected to. A host without a zone has none. */
const clustersOfZone = async (world: World, zoneId: string | null): Promise<string[]> =>
  (await readyClusters(world.database.connections, { zoneId })).map(({ id }) => id);

/** Tells every storage cluster that knows a host, through a host that answers, about the addresses of that host. */
async function ofClients(
  world: World,
  { id: hostId, zoneId }: { id: string; zoneId: string | null },
  call: 'ceph.ensureFenced' | 'ceph.ensureUnfenced',
): Promise<void> {
  const clients = await clientsOf(world.database.connections, { hostId });
  // All of them, also where one does not answer.
  const asked = await Promise.allSettled(
    clients.map(async ({ storageClusterId, addresses }) => {
      const access = await adminAccess(world, storageClusterId);
      await (await zoneAgentBeside(world, hostId, zoneId)).call(call, { access, addresses });
    }),
  );
  for (const one of asked) if (one.status === 'rejected') throw one.reason;
}

/** Cancels the import and waits for its end. Answers whether it had succeeded before. */
async function endImport(agent: HostInStep, taskId: string, address: ImageAddress): Promise<boolean> {
  // With an aborted signal nothing is started: only the task of that id is cancelled, if there is one.
  const signal = AbortSignal.abort();
  const tags = { id: '', kind: '', operation: '', revision: 0 };
  try {
    await agent.runTask('image.import', taskId, { ...address, url: '', format: 'raw', sha256: '', tags }, { signal });
    return true;
  } catch (error) {
    if (error === signal.reason) return false;
    throw error;
  }
}

export const rbd: StorageDriver = {
  source: (pool, object) => ({ type: 'rbd', ...addressOf(pool, object) }),

  async ensureBlank(agent, pool, id, { sizeGib, tags }) {
    await agent.call('rbd.ensureImage', { ...volumeAt(pool, id), sizeGib, tags });
  },
  async ensureClone(agent, pool, id, { from: origin, sizeGib, tags }) {
    const from =
      'imageId' in origin
        ? { pool: placeOf(pool).pool, image: nameOf({ of: 'image', id: origin.imageId }), snapshot: baseSnapshot }
        : {
            pool: placeOf(origin.pool).pool,
            image: nameOf({ of: 'volume', id: origin.volumeId }),
            snapshot: `snap-${origin.snapshotId}`,
          };
    await agent.call('rbd.ensureClone', { ...volumeAt(pool, id), from, sizeGib, tags });
  },
  async ensureSeed(agent, pool, seed) {
    await agent.call('seed.ensure', { ...addressOf(pool, { of: 'seed', id: seed.instanceId }), ...seed });
  },
  async ensureAbsent(agent, pool, object, { onlyOperation, ...patience } = {}) {
    const only = onlyOperation === undefined ? {} : { onlyOperation };
    await agent.call('rbd.ensureImageAbsent', { ...addressOf(pool, object), ...only }, patience);
  },
  async ensureTrashed(agent, pool, id) {
    await agent.call('rbd.ensureTrashed', volumeAt(pool, id));
  },
  async ensureRestored(agent, pool, id) {
    await agent.call('rbd.ensureRestored', volumeAt(pool, id));
  },
  async ensureExpunged(agent, pool, id, patience) {
    await agent.call('rbd.ensureExpunged', volumeAt(pool, id), patience);
  },
  async ensureSize(agent, pool, id, size) {
    await agent.call('rbd.ensureSize', { ...volumeAt(pool, id), ...size });
  },

  async ensureSnapshot(agent, pool, id, { name, tags }) {
    await agent.call('rbd.ensureSnapshot', { ...volumeAt(pool, id), snapshot: name, tags });
  },
  async ensureSnapshotAbsent(agent, pool, id, { name }) {
    await agent.call('rbd.ensureSnapshotAbsent', { ...volumeAt(pool, id), snapshot: name });
  },
  async rollBack(agent, pool, id, name, patience) {
    await agent.call('rbd.rollBack', { ...volumeAt(pool, id), snapshot: name }, patience);
  },

  async importImage(agent, pool, id, task) {
    const input = { ...addressOf(pool, { of: 'image', id }), ...task.source };
    await agent.runTask('image.import', task.id, input, { signal: task.signal });
  },
  async cancelImport(agent, pool, id, task) {
    const address = addressOf(pool, { of: 'image', id });
    if (await endImport(agent, task.id, address)) return true;
    await agent.call('rbd.ensureImageAbsent', { ...address, image: `${address.image}.part-${task.operationId}` });
    await agent.call('rbd.ensureImageAbsent', { ...address, onlyOperation: task.operationId });
    return false;
  },
  async cachedImages(agent, pool) {
    const { images } = await agent.call('rbd.inventory', placeOf(pool)).catch((error: unknown) => {
      // The pool went in an earlier attempt, or this host has no part in it and nothing was cached.
      if (error instanceof AgentError && !error.retryable) return { images: [] };
      throw error;
    });
    const prefix = nameOf({ of: 'image', id: '' });
    return images
      .filter(({ name, tags }) => tags.kind === 'image' && name.startsWith(prefix))
      .map(({ name }) => name.slice(prefix.length));
  },

  async inventory(world, agent, pool) {
    const { storageClusterId, pool: name } = placeOf(pool);
    const access = await adminAccess(world, storageClusterId);
    const { totalBytes, usedBytes } = await agent.call('ceph.poolStatus', { access, pool: name });
    const { images, trash } = await agent.call('rbd.inventory', placeOf(pool));
    const ours = images.flatMap(({ name: image, tags }) => {
      const object = objectNamed(image);
      return object ? [{ ...object, trashed: false, operation: tags.operation }] : [];
    });
    const gone = trash.flatMap(({ name: image }) => {
      const object = objectNamed(image);
      return object?.of === 'volume' ? [{ ...object, trashed: true, operation: undefined }] : [];
    });
    return { objects: [...ours, ...gone], totalBytes, usedBytes };
  },

  async ensurePool(world, pool, hostId, tags) {
    const { storageClusterId, pool: name } = placeOf(pool);
    const access = await adminAccess(world, storageClusterId);
    const agent = await zoneAgent(world, hostId, pool.zoneId);
    const { made } = await agent.call('ceph.ensurePool', {
      access,
      pool: name,
      deviceClass: pool.deviceClass,
      replicas: pool.replicas,
      failureDomain: pool.failureDomain as 'osd' | 'host',
      tags,
    });
    const { totalBytes, usedBytes } = await agent.call('ceph.poolStatus', { access, pool: name });
    return { made, totalBytes, usedBytes };
  },
  async ensurePoolAbsent(world, pool, hostId, tags) {
    const { storageClusterId, pool: name } = placeOf(pool);
    const access = await adminAccess(world, storageClusterId);
    const agent = await zoneAgent(world, hostId, pool.zoneId);
    await agent.call('ceph.ensurePoolAbsent', { access, pool: name, tags });
  },
  administrator: (world, pool) => anyHostOfZone(world, pool.zoneId),
  alignHost: (world, pool, hostId) => alignAccess(world, hostId, placeOf(pool).storageClusterId, pool.zoneId),

  async connectHost(world, host) {
    for (const id of await clustersOfZone(world, host.zoneId)) await alignAccess(world, host.id, id, host.zoneId);
  },
  async disconnectHost(world, host) {
    const agent = await world.host(host.id);
    for (const id of await clustersOfZone(world, host.zoneId))
      await revokeAccess(agent, host.id, await adminAccess(world, id));
  },
  async disownHost(world, host) {
    for (const id of await clustersOfZone(world, host.zoneId)) {
      const other = await anyHostOfZone(world, host.zoneId);
      if (!other)
        throw tryAgain('HOST_UNREACHABLE', `no other host of the zone is connected to revoke ${host.id}'s rights`);
      const access = await adminAccess(world, id);
      await (await world.anyHost(other, host.id)).call('ceph.ensureUserAbsent', { access, user: cephUser(host.id) });
    }
  },
  fenceHost: (world, host) => ofClients(world, host, 'ceph.ensureFenced'),
  unfenceHost: (world, host) => ofClients(world, host, 'ceph.ensureUnfenced'),
  async isFenced(world, { id: hostId, zoneId }, atHand) {
    for (const { storageClusterId, addresses } of await clientsOf(world.database.connections, { hostId })) {
      const access = await adminAccess(world, storageClusterId);
      const fenced = await (await zoneAgent(world, atHand, zoneId)).call('ceph.fenced', { access });
      if (!addresses.every((address) => fenced.addresses.includes(address))) return false;
    }
    return true;
  },
  async openAt(world, { id, pool }, atHand) {
    const { addresses } = await (await world.host(atHand)).call('rbd.watchers', volumeAt(pool, id));
    return addresses.map(addressOfWatcher);
  },
  async proveWritable(world, { id: hostId }) {
    const agent = await world.host(hostId);
    for (const { storageClusterId } of await clientsOf(world.database.connections, { hostId }))
      for (const pool of await poolsOf(world, hostId, storageClusterId))
        await agent.call('rbd.proveWritable', { storageClusterId, pool });
  },
  diskAccess: async (world, hostId) => ({ cephUsers: await cephUsers(world, hostId) }),
};
