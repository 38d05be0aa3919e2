import { Context } from '@temporalio/activity';
import { run } from '../../database/database.ts';
import { AgentError } from '../../host-agent/agentError.ts';
import type { Tags } from '../../host-agent/protocol.ts';
import { refuse } from '../failure.ts';
import { type StepContext, step } from '../step.ts';
import type { World } from '../world.ts';
import { adminAccess, alignAccess, anyHostOfZone } from './cephAccess.ts';
import { removeUnused } from './imageCache.ts';
import { poolAgent, zoneAgent } from './poolHost.ts';

interface StoragePoolRef {
  storagePoolId: string;
}
interface OnHost extends StoragePoolRef {
  hostId: string;
}

const gib = 2 ** 30;

export const storagePools = (world: World) => {
  const { prisma, pool } = world.database;
  const find = (id: string) => prisma.storagePool.findUniqueOrThrow({ where: { id } });
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
    const [record] = await run<{ storageClusterId: string; zoneId: string | null }>(
      pool,
      `SELECT "storageClusterId", "zoneId" FROM "storagePool" WHERE id = $1`,
      [storagePoolId],
    );
    if (!record) throw refuse('NOT_FOUND', `there is no storage pool ${storagePoolId}`);
    await alignAccess(world, hostId, record.storageClusterId, record.zoneId);
  };

  return {
    /** The connected hosts that reach the pool, and one that speaks to the cluster for the control plane. Of a pool that is to go, nothing may live there. */
    locate: step({
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
        const { zoneId, storageClusterId, pool: name, clusterIds } = await find(storagePoolId);
        const hosts = await run<{ id: string }>(
          pool,
          `SELECT id FROM "host" WHERE "clusterId" = ANY($1::uuid[]) AND connection = 'connected' AND state IN ('active', 'maintenance')
             AND "deletedAt" IS NULL ORDER BY id`,
          [clusterIds],
        );
        const cluster = await prisma.storageCluster.findUniqueOrThrow({ where: { id: storageClusterId } });
        const hostId = hosts[0]?.id ?? (await anyHostOfZone(world, zoneId ?? cluster.zoneId));
        if (!hostId)
          throw refuse(
            'PRECONDITION_FAILED',
            'no host of the zone is connected: one must speak to the storage cluster',
          );
        if (
          hosts.length === 0 &&
          (await world.database.prisma.imageCache.count({ where: { poolId: storagePoolId } })) > 0
        )
          throw refuse('PRECONDITION_FAILED', `pool ${name} holds cached images, and no connected host reaches it`);
        return { hostId, hostIds: hosts.map((host) => host.id) };
      },
    }),

    /** The pool in Ceph, made or adopted, and what it holds. The undo removes only one that carries this record's tag. */
    make: step({
      async do({ storagePoolId, hostId }: OnHost, context) {
        const record = await find(storagePoolId);
        const access = await adminAccess(world, record.storageClusterId);
        const agent = await zoneAgent(world, hostId, record.zoneId);
        const { made } = await agent.call('ceph.ensurePool', {
          access,
          pool: record.pool,
          deviceClass: record.deviceClass,
          replicas: record.replicas,
          failureDomain: record.failureDomain as 'osd' | 'host',
          tags: tagsOf(record, context),
        });
        const { totalBytes, usedBytes } = await agent.call('ceph.poolStatus', { access, pool: record.pool });
        await prisma.storagePool.update({
          where: { id: storagePoolId },
          data: {
            madeByPlatform: made,
            capacity: { totalBytes, usedBytes },
            totalGib: Math.floor(totalBytes / gib),
          },
        });
      },
      async undo({ storagePoolId, hostId }, context) {
        const record = await find(storagePoolId);
        const access = await adminAccess(world, record.storageClusterId);
        const tags = tagsOf(record, context);
        const agent = await zoneAgent(world, hostId, record.zoneId);
        await agent.call('ceph.ensurePoolAbsent', { access, pool: record.pool, tags });
        await forgetCapacity(storagePoolId);
      },
    }),

    /** A host's rights with this pool; the undo gives it those without it. */
    connectHost: step({
      do: align,
      async undo(input) {
        await forgetCapacity(input.storagePoolId);
        await align(input);
      },
    }),

    /** Cached images go with the pool; a pool that the platform did not make stays in Ceph. */
    remove: step({
      async do({ storagePoolId, hostId }: OnHost, context) {
        const { cancellationSignal: signal } = Context.current();
        const record = await find(storagePoolId);
        const { pool: name, storageClusterId } = record;
        const access = await adminAccess(world, storageClusterId);
        const agent = await poolAgent(world, hostId, storagePoolId);
        const { images } = await agent
          .call('rbd.inventory', { storageClusterId, pool: name })
          .catch((error: unknown) => {
            // The pool went in an earlier attempt, or this host has no part in it and nothing was cached.
            if (error instanceof AgentError && !error.retryable) return { images: [] };
            throw error;
          });
        for (const image of images.filter(({ tags }) => tags.kind === 'image'))
          await agent.call(
            'rbd.ensureImageAbsent',
            { storageClusterId, pool: name, image: image.name },
            { signal, timeoutMs: 600_000 },
          );
        await run(pool, `DELETE FROM "imageCache" WHERE "poolId" = $1`, [storagePoolId]);
        if (record.madeByPlatform)
          await agent.call('ceph.ensurePoolAbsent', { access, pool: name, tags: tagsOf(record, context) });
        await forgetCapacity(storagePoolId);
      },
    }),

    /** One copy after the other; a later attempt goes on where this one ended. */
    cleanCache: step({
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

    disconnectHost: step({ do: align }),
  };
};
