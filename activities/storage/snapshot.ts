import { run } from '../../database/database.ts';
import { reachingHost } from '../compute/placement.ts';
import { isDead, mustAnswer } from '../compute/silence.ts';
import { refuse } from '../failure.ts';
import { asHolder } from '../holder.ts';
import { step } from '../step.ts';
import type { World } from '../world.ts';
import { snapshotName } from './names.ts';
import { poolAgent } from './poolHost.ts';
import { addressOf, volumeRows } from './volume.ts';

interface SnapshotRef {
  snapshotId: string;
}
interface OnHost extends SnapshotRef {
  hostId: string;
}

export interface LocatedSnapshot {
  /** Where the work is done: on the running instance's host, else on any that reaches the pool. */
  hostId: string;
  volumeId: string;
  sizeGib: number;
  /** The running guest to be quiesced; null when there is none or nobody asked for it. */
  freezeInstanceId: string | null;
}

export const snapshots = (world: World) => {
  const { prisma, pool } = world.database;

  async function imageOf(snapshotId: string) {
    const snapshot = await prisma.snapshot.findUniqueOrThrow({ where: { id: snapshotId } });
    const [volume] = await volumeRows(world, [snapshot.volumeId]);
    if (!volume) throw refuse('INVALID_STATE', `volume ${snapshot.volumeId} is in no pool`);
    const { poolId } = volume;
    if (!poolId) throw refuse('INVALID_STATE', `volume ${volume.id} is in no pool`);
    return { snapshot, poolId, address: { ...addressOf(volume), snapshot: snapshotName(snapshotId) } };
  }

  return {
    /** What the records say of a snapshot's volume and of the guest that uses it. */
    locate: step({
      async do({ snapshotId }: SnapshotRef): Promise<LocatedSnapshot> {
        const snapshot = await prisma.snapshot.findUniqueOrThrow({ where: { id: snapshotId } });
        const volume = await prisma.volume.findUniqueOrThrow({ where: { id: snapshot.volumeId } });
        if (!volume.poolId) throw refuse('INVALID_STATE', `volume ${volume.id} is in no pool`);
        const instance = volume.instanceId
          ? await prisma.instance.findUnique({ where: { id: volume.instanceId } })
          : null;
        const freezeInstanceId = snapshot.quiesce && instance?.hostId ? instance.id : null;
        if (freezeInstanceId) await mustAnswer(world.database.pool, instance?.hostId ?? null);
        return {
          hostId: instance?.hostId ?? (await reachingHost(pool, volume.poolId)),
          volumeId: volume.id,
          sizeGib: snapshot.sizeGib ?? volume.sizeGib ?? 0,
          freezeInstanceId,
        };
      },
    }),

    /** The snapshot in Ceph, between freeze and thaw when the guest is to be quiesced: it is thawed whatever happens. */
    take: step({
      async do(
        { snapshotId, hostId, freezeInstanceId }: OnHost & { freezeInstanceId: string | null },
        { operationId },
      ): Promise<{ frozen: boolean }> {
        const { snapshot, poolId, address } = await imageOf(snapshotId);
        const { id, projectId, revision } = snapshot;
        const tags = { id, kind: 'snapshot', operation: operationId, revision, projectId };
        if (!freezeInstanceId) {
          await (await poolAgent(world, hostId, poolId)).call('rbd.ensureSnapshot', { ...address, tags });
          return { frozen: false };
        }
        const agent = await world.host(hostId);
        try {
          const { frozen } = await agent.call('domain.freeze', { id: freezeInstanceId });
          await agent.call('rbd.ensureSnapshot', { ...address, tags });
          return { frozen };
        } finally {
          await agent.call('domain.thaw', { id: freezeInstanceId });
        }
      },
      async undo({ snapshotId, hostId, freezeInstanceId }) {
        const { poolId, address } = await imageOf(snapshotId);
        await (await poolAgent(world, hostId, poolId)).call('rbd.ensureSnapshotAbsent', address);
        // A guest that was frozen on a host that is away is thawed when that is back; on a dead one there is none.
        if (freezeInstanceId && !(await isDead(world, hostId)))
          await (await world.host(hostId)).call('domain.thaw', { id: freezeInstanceId });
      },
    }),

    /** Where it lies, how large it is, and which snapshot of the volume came before it. */
    describe: step({
      async do({ snapshotId, frozen }: SnapshotRef & { frozen: boolean }, context) {
        await asHolder(world.database, context, (tx) =>
          run(
            tx,
            `UPDATE "snapshot" s SET frozen = $2, "sizeGib" = v."sizeGib", "poolId" = v."poolId", "zoneId" = v."zoneId", "parentId" = (
             SELECT p.id FROM "snapshot" p WHERE p."volumeId" = s."volumeId" AND p.state = 'ready' AND p."deletedAt" IS NULL AND p.id <> s.id
             ORDER BY p."createdAt" DESC, p.id DESC LIMIT 1)
           FROM "volume" v WHERE s.id = $1 AND v.id = s."volumeId"`,
            [snapshotId, frozen],
          ),
        );
      },
    }),

    remove: step({
      async do({ snapshotId, hostId }: OnHost) {
        const { poolId, address } = await imageOf(snapshotId);
        await (await poolAgent(world, hostId, poolId)).call('rbd.ensureSnapshotAbsent', address);
      },
    }),

    /** Snapshots that followed a removed one follow the one before it. */
    rejoin: step({
      async do({ snapshotId }: SnapshotRef, context) {
        await asHolder(world.database, context, (tx) =>
          run(
            tx,
            `UPDATE "snapshot" s SET "parentId" = gone."parentId" FROM "snapshot" gone WHERE gone.id = $1 AND s."parentId" = gone.id`,
            [snapshotId],
          ),
        );
      },
    }),
  };
};
