import { Context } from '@temporalio/activity';
import { livingOf } from '../../database/audit.ts';
import { from, isAmong, statement, type Values } from '../../database/statement.ts';
import type { Tags } from '../../host-agent/protocol.ts';
import { kindOf } from '../../model/kinds.ts';
import { servingStates } from '../../model/platform/host.ts';
import { refuse } from '../failure.ts';
import { type StepContext, step } from '../step.ts';
import type { World } from '../world.ts';
import { driverOf } from './drivers/index.ts';
import { alignHeartbeats } from './heartbeats.ts';
import { removeUnused } from './imageCache.ts';
import { poolOf } from './pool.ts';
import { poolAgent, reachingHost } from './poolHost.ts';

/** Steps that give hosts access to pools pass over a pool whose capacity is null. So access ends before the pool is removed. */
const forgetCapacity = statement((p: Values<{ id: string }>) =>
  from
    .updateTable('storagePool')
    .set({ capacity: null, totalGib: 0, madeByPlatform: false })
    .where('id', '=', p.id)
    .where('state', '<>', 'ready'),
);

const livingWhereItGoes = statement((p: Values<{ id: string }>) =>
  from
    .selectFrom('storagePool as p')
    .innerJoin('volume as v', 'v.poolId', 'p.id')
    .select('v.id')
    .where('p.id', '=', p.id)
    .where('p.state', '=', 'deleting')
    .where('v.deletedAt', 'is', null)
    .limit(1),
);

const reachingHosts = statement((p: Values<{ clusterIds: string[]; hostId: string | null }>) =>
  from
    .selectFrom('host')
    .select('id')
    .where((eb) => isAmong(eb.ref('clusterId'), p.clusterIds))
    .where((eb) => eb.or([eb(eb.cast<string | null>(eb.val(p.hostId), 'uuid'), 'is', null), eb('id', '=', p.hostId)]))
    .where('connection', '=', 'connected')
    .where('state', 'in', servingStates)
    .where('deletedAt', 'is', null)
    .orderBy('id'),
);

const forgetCopies = statement((p: Values<{ poolId: string }>) =>
  from.deleteFrom('imageCache').where('poolId', '=', p.poolId),
);

interface StoragePoolRef {
  storagePoolId: string;
}
interface Stray extends StoragePoolRef {
  volumeId: string;
}
interface OnHost extends StoragePoolRef {
  hostId: string;
}

const gib = 2 ** 30;

export const storagePools = (world: World) => {
  const { prisma, connections } = world.database;
  const find = (id: string) => poolOf(world, id);
  const tagsOf = ({ id, revision }: { id: string; revision: number }, { operationId }: StepContext): Tags => ({
    id,
    kind: 'storagePool',
    operation: operationId,
    revision,
  });
  const align = async ({ storagePoolId, hostId }: OnHost): Promise<void> => {
    const record = await find(storagePoolId);
    await driverOf(record).alignHost(world, record, hostId);
    await alignHeartbeats(world, hostId);
  };

  return {
    /** The connected hosts that reach the pool, and one that works on it for the control plane. Of a pool that is to go, nothing may live there. */
    locate: step({
      system: 'record',
      async do({ storagePoolId }: StoragePoolRef): Promise<{ hostId: string; hostIds: string[] }> {
        // What was placed there while the deletion was accepted; nothing follows, because only a pool that is ready has room.
        const [volume] = await livingWhereItGoes(connections, { id: storagePoolId });
        if (volume)
          throw refuse('HAS_DEPENDENTS', `volume ${volume.id} lives in storage pool ${storagePoolId}`, {
            blockers: [{ kind: 'volume', id: volume.id }],
          });
        const record = await find(storagePoolId);
        const hosts = await reachingHosts(connections, { clusterIds: record.clusterIds, hostId: record.hostId });
        const hostId = hosts[0]?.id ?? (await driverOf(record).administrator(world, record));
        if (!hostId)
          throw refuse('PRECONDITION_FAILED', 'no host of the zone is connected: one must work on the storage pool');
        if (
          hosts.length === 0 &&
          record.hostId === null &&
          (await world.database.prisma.imageCache.count({ where: { poolId: storagePoolId } })) > 0
        )
          throw refuse(
            'PRECONDITION_FAILED',
            `storage pool ${record.id} holds cached images, and no connected host reaches it`,
          );
        return { hostId, hostIds: hosts.map((host) => host.id) };
      },
    }),

    /** The pool, made or adopted, and what it holds. The undo removes only one that carries this record's tag. */
    make: step({
      system: 'rbd',
      async do({ storagePoolId, hostId }: OnHost, context) {
        const record = await find(storagePoolId);
        const { made, totalBytes, usedBytes } = await driverOf(record).ensurePool(
          world,
          record,
          hostId,
          tagsOf(record, context),
        );
        await prisma.storagePool.update({
          where: { id: storagePoolId },
          data: {
            madeByPlatform: made,
            capacity: { totalBytes, usedBytes },
            totalGib: Math.floor(totalBytes / gib),
          },
        });
      },
      undoText: 'delete if made here and empty',
      async undo({ storagePoolId, hostId }, context) {
        const record = await find(storagePoolId);
        await driverOf(record).ensurePoolAbsent(world, record, hostId, tagsOf(record, context));
        await forgetCapacity(connections, { id: storagePoolId });
      },
    }),

    /** A host's rights with this pool; the undo gives it those without it. */
    connectHost: step({
      system: 'host',
      do: align,
      undoText: 'old rights',
      async undo(input) {
        await forgetCapacity(connections, { id: input.storagePoolId });
        await align(input);
      },
    }),

    /** Cached images go with the pool; a pool that the platform did not make stays. */
    remove: step({
      system: 'rbd',
      async do({ storagePoolId, hostId }: OnHost, context) {
        const { cancellationSignal: signal } = Context.current();
        const record = await find(storagePoolId);
        const driver = driverOf(record);
        const agent = await poolAgent(world, hostId, record);
        for (const id of await driver.cachedImages(agent, record))
          await driver.ensureAbsent(agent, record, { of: 'image', id }, { signal, timeoutMs: 600_000 });
        await forgetCopies(connections, { poolId: storagePoolId });
        if (record.madeByPlatform) await driver.ensurePoolAbsent(world, record, hostId, tagsOf(record, context));
        await forgetCapacity(connections, { id: storagePoolId });
      },
    }),

    /** One copy after the other; a later attempt goes on where this one ended. */
    cleanCache: step({
      system: 'rbd',
      async do(
        { storagePoolId, hostId, unusedForSeconds }: OnHost & { unusedForSeconds: number },
        { operationId },
      ): Promise<{ imageIds: string[] }> {
        const { cancellationSignal: signal } = Context.current();
        return {
          imageIds: await removeUnused(world, { hostId, poolId: storagePoolId, operationId, unusedForSeconds }, signal),
        };
      },
    }),

    /** There is no volume of that id, and never will be again: nobody can be about to need its disk. Answers a host that reaches the pool. */
    findStray: step({
      system: 'record',
      async do({ storagePoolId, volumeId }: Stray): Promise<{ hostId: string }> {
        const [living] = await livingOf(kindOf('volume'))(connections, { id: volumeId });
        if (living) throw refuse('INVALID_STATE', `there is a volume ${volumeId}: its disk is no stray`);
        return { hostId: await reachingHost(connections, storagePoolId) };
      },
    }),

    trashStray: step({
      system: 'rbd',
      async do({ storagePoolId, hostId, volumeId }: Stray & { hostId: string }) {
        const record = await find(storagePoolId);
        await driverOf(record).ensureTrashed(await poolAgent(world, hostId, record), record, volumeId);
      },
      undoText: 'restore from trash',
      async undo({ storagePoolId, hostId, volumeId }) {
        const record = await find(storagePoolId);
        await driverOf(record).ensureRestored(await poolAgent(world, hostId, record), record, volumeId);
      },
    }),

    disconnectHost: step({ system: 'host', do: align }),
  };
};
