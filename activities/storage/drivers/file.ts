/** Pools of files: volumes are qcow2 images whose snapshots and origins lie below them as layers. The same for each way in which hosts see a directory. */
import { from, statement, type Values } from '../../../database/statement.ts';
import { AgentError } from '../../../host-agent/agentError.ts';
import type { FileRoot } from '../../../host-agent/protocol.ts';
import { type PoolType, poolTypes } from '../../../model/storage/poolTypes.ts';
import { refuse } from '../../failure.ts';
import { ifItAnswers, isDead } from '../../silence.ts';
import { poolAgent } from '../poolHost.ts';
import type { Pool, StorageDriver } from './driver.ts';

type FilePoolType = Exclude<PoolType, 'rbd'>;

const reached = statement((p: Values<{ hostId: string }>) =>
  from
    .selectFrom('storagePool as p')
    .innerJoin('host as h', (join) => join.on((eb) => eb('h.clusterId', '=', eb.fn.any('p.clusterIds'))))
    .select(['p.id', 'p.type', 'p.source'])
    .where('h.id', '=', p.hostId)
    .where((eb) => eb.or([eb('p.hostId', 'is', null), eb('p.hostId', '=', p.hostId)]))
    .where('p.capacity', 'is not', null)
    .where('p.deletedAt', 'is', null)
    .orderBy('p.id'),
);

function rootOf({ id, type, source }: Pick<Pool, 'id' | 'type' | 'source'>): FileRoot {
  if (type === 'rbd' || !source) throw refuse('INVALID_STATE', `storage pool ${id} is in no directory`);
  const { server, path } = source;
  if (type !== 'nfs') return { type, path };
  if (!server) throw refuse('INVALID_STATE', `storage pool ${id} names no server`);
  return { type, server, path };
}

/** Said where there is a guest: an agent of before refuses what it does not know. */
const under = (guest: string | undefined) => (guest === undefined ? {} : { guest });

export const fileDriver = (type: FilePoolType): StorageDriver => ({
  source: ({ id: poolId }, { of, id }) => ({ type: 'file', poolId, of, id }),

  async ensureBlank(agent, { id: poolId }, id, content) {
    await agent.call('files.ensureVolume', { poolId, id, ...content });
  },
  async ensureClone(agent, { id: poolId }, id, { from: origin, ...content }) {
    if ('pool' in origin && origin.pool.id !== poolId)
      throw refuse('NOT_SUPPORTED', `snapshot ${origin.snapshotId} is not in storage pool ${poolId}`);
    const below =
      'imageId' in origin
        ? { image: origin.imageId }
        : { volume: origin.volumeId, snapshot: `snap-${origin.snapshotId}` };
    await agent.call('files.ensureClone', { poolId, id, from: below, ...content });
  },
  async ensureSeed(agent, { id: poolId }, seed) {
    await agent.call('files.ensureSeed', { poolId, ...seed });
  },
  async ensureAbsent(agent, { id: poolId }, object, { onlyOperation, ...patience } = {}) {
    const only = onlyOperation === undefined ? {} : { onlyOperation };
    await agent.call('files.ensureAbsent', { poolId, ...object, ...only }, patience);
  },
  async ensureTrashed(agent, { id: poolId }, id) {
    await agent.call('files.ensureTrashed', { poolId, id });
  },
  async ensureRestored(agent, { id: poolId }, id) {
    await agent.call('files.ensureRestored', { poolId, id });
  },
  async ensureExpunged(agent, { id: poolId }, id, patience) {
    await agent.call('files.ensureExpunged', { poolId, id }, patience);
  },
  async ensureSize(agent, { id: poolId }, id, size) {
    await agent.call('files.ensureSize', { poolId, id, ...size });
  },

  async ensureSnapshot(agent, { id: poolId }, id, { name: snapshot, tags, instanceId }) {
    await agent.call('files.ensureSnapshot', { poolId, id, snapshot, tags, ...under(instanceId) });
  },
  async ensureSnapshotAbsent(agent, { id: poolId }, id, { name: snapshot, instanceId }) {
    await agent.call('files.ensureSnapshotAbsent', { poolId, id, snapshot, ...under(instanceId) });
  },
  async rollBack(agent, { id: poolId }, id, snapshot, patience) {
    await agent.call('files.rollBack', { poolId, id, snapshot }, patience);
  },

  async importImage(agent, { id: poolId }, id, { id: taskId, source, signal }) {
    await agent.runTask('files.import', taskId, { poolId, id, ...source }, { signal });
  },
  async cancelImport(agent, { id: poolId }, id, task) {
    // With an aborted signal nothing is started: only the task of that id is cancelled, if there is one.
    const signal = AbortSignal.abort();
    const tags = { id: '', kind: '', operation: '', revision: 0 };
    const input = { poolId, id, url: '', format: 'raw', sha256: '', tags } as const;
    const succeeded = await agent.runTask('files.import', task.id, input, { signal }).then(
      () => true,
      (error: unknown) => {
        if (error === signal.reason) return false;
        throw error;
      },
    );
    // A task that has ended has taken its parts away itself.
    if (!succeeded)
      await agent.call('files.ensureAbsent', { poolId, of: 'image', id, onlyOperation: task.operationId });
    return succeeded;
  },
  async cachedImages(agent, { id: poolId }) {
    const { files } = await agent.call('files.inventory', { poolId }).catch((error: unknown) => {
      // The pool went in an earlier attempt.
      if (error instanceof AgentError && !error.retryable) return { files: [] };
      throw error;
    });
    return files.flatMap(({ of, id }) => (of === 'image' ? [id] : []));
  },

  async inventory(_world, agent, { id: poolId }) {
    const { totalBytes, usedBytes } = await agent.call('files.status', { poolId });
    const { files, trash } = await agent.call('files.inventory', { poolId });
    return {
      objects: [
        ...files.map(({ of, id, tags }) => ({ of, id, trashed: false, operation: tags.operation })),
        ...trash.map((id) => ({ of: 'volume' as const, id, trashed: true, operation: undefined })),
      ],
      totalBytes,
      usedBytes,
    };
  },

  async ensurePool(world, pool, hostId) {
    const agent = await poolAgent(world, hostId, pool);
    const room = await agent.call('files.ensureConnected', { poolId: pool.id, root: rootOf(pool), make: true });
    // Its directory is empty: what is used of the file system is others'.
    return { made: true, totalBytes: room.totalBytes - room.usedBytes, usedBytes: 0 };
  },
  async ensurePoolAbsent(world, pool, hostId) {
    const agent = await poolAgent(world, hostId, pool);
    await agent.call('files.ensurePoolAbsent', { poolId: pool.id, root: rootOf(pool) });
  },
  // Only a host that sees the directory can work on it; of what went with a dead one nothing is left to work on.
  administrator: async (world, { hostId }) => (hostId !== null && (await isDead(world, hostId)) ? hostId : null),
  async alignHost(world, pool, hostId) {
    const agent = await ifItAnswers(world, hostId);
    const there = (await reached(world.database.connections, { hostId })).some(({ id }) => id === pool.id);
    if (there) await agent?.call('files.ensureConnected', { poolId: pool.id, root: rootOf(pool), make: false });
    else await agent?.call('files.ensureDisconnected', { poolId: pool.id });
  },

  async connectHost(world, { id: hostId }) {
    const agent = await world.host(hostId);
    for (const pool of await reached(world.database.connections, { hostId }))
      if (pool.type === type)
        await agent.call('files.ensureConnected', { poolId: pool.id, root: rootOf(pool), make: false });
  },
  async disconnectHost(world, { id: hostId }) {
    const agent = await world.host(hostId);
    for (const pool of await reached(world.database.connections, { hostId }))
      if (pool.type === type) await agent.call('files.ensureDisconnected', { poolId: pool.id });
  },
  // Who may mount is the file server's to say.
  disownHost: async () => {},
  // Nobody is refused there: what could still be written by the host is asked of a person.
  fenceHost: async () => {},
  unfenceHost: async () => {},
  isFenced: async () => true,
  openAt: async () => [],
  async proveWritable(world, { id: hostId }) {
    const agent = await world.host(hostId);
    for (const pool of await reached(world.database.connections, { hostId }))
      if (pool.type === type) await agent.call('files.status', { poolId: pool.id });
  },
  async diskAccess(world, hostId, pools) {
    if (!poolTypes[type].can.liveMove || pools.length === 0) return {};
    const agent = await world.host(hostId);
    // It refuses where the pool's directory is not mounted.
    for (const { id: poolId } of pools) await agent.call('files.status', { poolId });
    return { sharedPools: pools.map(({ id }) => id) };
  },
});
