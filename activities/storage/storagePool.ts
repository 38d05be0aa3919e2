import { Context } from '@temporalio/activity';
import { run } from '../../database/database.ts';
import type { Tags } from '../../host-agent/protocol.ts';
import { refuse } from '../failure.ts';
import { type StepContext, step } from '../step.ts';
import type { World } from '../world.ts';
import { driverOf } from './drivers/index.ts';
import { removeUnused } from './imageCache.ts';
import { poolOf } from './pool.ts';
import { poolAgent } from './poolHost.ts';

interface StoragePoolRef {
  storagePoolId: string;
}
interface OnHost extends StoragePoolRef {
  hostId: string;
}

const gib = 2 ** 30;

export const storagePools = (world: World) => {
  const { prisma, pool } = world.database;
  const find = (id: string) => poolOf(world, id);
  const tagsOf = ({ id, revision }: { id: string; revision: number }, { operationId }: StepContext): Tags => ({
    id,
    kind: 'storagePool',
    operation: operationId,
    revision,
  });
  /** A pool without capacity is not there, to whoever aligns the rights of hosts. */
  const forgetCapacity = (storagePoolId: string) =>
    run(
      pool,
      `UPDATE "storagePool" SET capacity = NULL, "totalGib" = 0, "madeByPlatform" = false WHERE id = $1 AND state <> 'ready'`,
      [storagePoolId],
    );
  const align = async ({ storagePoolId, hostId }: OnHost): Promise<void> => {
    const record = await find(storagePoolId);
    await driverOf(record).alignHost(world, record, hostId);
  };

  return {
    /** The connected hosts that reach the pool, and one that works on it for the control plane. Of a pool that is to go, nothing may live there. */
    locate: step({
      system: 'record',
      async do({ storagePoolId }: StoragePoolRef): Promise<{ hostId: string; hostIds: string[] }> {
        // What was placed there while the deletion was accepted; nothing follows, because only a pool that is ready has room.
        const [volume] = await run<{ id: string }>(
          pool,
          `SELECT v.id FROM "storagePool" p JOIN "volume" v ON v."poolId" = p.id WHERE p.id = $1 AND p.state = 'deleting' AND v."deletedAt" IS NULL LIMIT 1`,
          [storagePoolId],
        );
        if (volume)
          throw refuse('HAS_DEPENDENTS', `volume ${volume.id} lives in storage pool ${storagePoolId}`, {
            blockers: [{ kind: 'volume', id: volume.id }],
          });
        const record = await find(storagePoolId);
        const hosts = await run<{ id: string }>(
          pool,
          `SELECT id FROM "host" WHERE "clusterId" = ANY($1::uuid[]) AND connection = 'connected' AND state IN ('active', 'maintenance')
             AND "deletedAt" IS NULL ORDER BY id`,
          [record.clusterIds],
        );
        const hostId = hosts[0]?.id ?? (await driverOf(record).administrator(world, record));
        if (!hostId)
          throw refuse('PRECONDITION_FAILED', 'no host of the zone is connected: one must work on the storage pool');
        if (
          hosts.length === 0 &&
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
        await forgetCapacity(storagePoolId);
      },
    }),

    /** A host's rights with this pool; the undo gives it those without it. */
    connectHost: step({
      system: 'host',
      do: align,
      undoText: 'old rights',
      async undo(input) {
        await forgetCapacity(input.storagePoolId);
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
        const agent = await poolAgent(world, hostId, storagePoolId);
        for (const id of await driver.cachedImages(agent, record))
          await driver.ensureAbsent(agent, record, { of: 'image', id }, { signal, timeoutMs: 600_000 });
        await run(pool, `DELETE FROM "imageCache" WHERE "poolId" = $1`, [storagePoolId]);
        if (record.madeByPlatform) await driver.ensurePoolAbsent(world, record, hostId, tagsOf(record, context));
        await forgetCapacity(storagePoolId);
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

    disconnectHost: step({ system: 'host', do: align }),
  };
};
