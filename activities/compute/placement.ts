/** Which host and which pools carry an instance, guarded by claims: a claim is inserted under a check of free capacity. */
import type { Client, Database } from '../../database/database.ts';
import { run } from '../../database/database.ts';
import {
  choosePools,
  claimFreeHost,
  claimHost,
  type Eligible,
  hostQuestion,
  imagesOf,
  type Need,
  noCapacity,
  onlyPoolOfVolume,
  poolsOf,
  reachingClusters,
  runningClusters,
  type VolumeNeed,
} from '../../database/placement.ts';
import { isOutOfRoom } from '../../database/uniqueness.ts';
import { refuse } from '../failure.ts';
import { asHolder } from '../holder.ts';
import { mustAnswer } from '../silence.ts';
import { type StepContext, step } from '../step.ts';
import { reachingHost } from '../storage/poolHost.ts';
import type { World } from '../world.ts';

interface InstanceNeed extends Need {
  instanceId: string;
}

/** An instance as placement sees it: what it needs, where it is, which host it has claimed already. */
interface Placed extends InstanceNeed {
  hostId: string | null;
  lastHostId: string | null;
  claimedHostId: string | null;
  volumes: VolumeNeed[];
}

async function needOf(tx: Client, instanceId: string): Promise<Placed> {
  const [row] = await run<Placed>(
    tx,
    `SELECT i.id AS "instanceId", i."zoneId", i.vcpus, i."memoryMib", i.architecture, i."hostId", i."lastHostId",
            (SELECT c."hostId" FROM "hostClaim" c WHERE c."instanceId" = i.id LIMIT 1) AS "claimedHostId",
            (SELECT coalesce(json_agg(json_build_object('id', v.id, 'sizeGib', v."sizeGib", 'poolId', v."poolId", 'storageClass', t."storageClass", 'imageId', v.source->>'imageId', 'onlyPoolId', ${onlyPoolOfVolume}) ORDER BY v.id), '[]')
             FROM "volume" v JOIN "volumeType" t ON t.id = v."volumeTypeId" WHERE v."instanceId" = i.id AND v."deletedAt" IS NULL) AS volumes
     FROM "instance" i WHERE i.id = $1`,
    [instanceId],
  );
  if (!row) throw refuse('NOT_FOUND', `instance ${instanceId} is gone`);
  return row;
}

/** Takes room on the host with the most free memory; hosts that another placement holds right now are passed over first. */
async function takeHost(
  tx: Client,
  operationId: string,
  need: InstanceNeed,
  eligible: Eligible,
): Promise<{ hostId: string; clusterId: string } | null> {
  const claim = { ...hostQuestion(need, eligible), instanceId: need.instanceId, operationId };
  const [free] = await claimFreeHost(tx, claim);
  if (free) return free;
  const [host] = await claimHost(tx, claim);
  return host ?? null;
}

/** Gives the claims back that match; safe to repeat, because only a deleted row is subtracted. */
async function dropClaims(tx: Client, condition: string, values: unknown[]): Promise<void> {
  await run(
    tx,
    `WITH gone AS (DELETE FROM "hostClaim" WHERE ${condition} RETURNING "hostId", vcpus, "memoryMib"),
          sums AS (SELECT "hostId", sum(vcpus)::int AS vcpus, sum("memoryMib")::int AS mib FROM gone GROUP BY "hostId")
     UPDATE "hostCapacity" c SET "claimedVcpus" = c."claimedVcpus" - s.vcpus, "claimedMemoryMib" = c."claimedMemoryMib" - s.mib
     FROM sums s WHERE c."hostId" = s."hostId"`,
    values,
  );
}

/** More than there are pools that could fill up one after another under the eyes of one placement. */
const maxChoices = 8;

/**
 * A placement chooses by what it sees, and the database decides when it takes: where others have taken the room of the chosen pool meanwhile, it
 * chooses again, from what is left.
 */
async function placing<T>(database: Database, context: StepContext, body: (tx: Client) => Promise<T>): Promise<T> {
  for (let choice = 1; ; choice++) {
    try {
      return await asHolder(database, context, body);
    } catch (error) {
      if (choice === maxChoices || !isOutOfRoom(error)) throw error;
    }
  }
}

export const placement = ({ database }: World) => ({
  /** A host for the instance and a pool for each of its volumes that has none yet. */
  reserve: step({
    system: 'placement',
    async do(
      { instanceId, requestedHostId }: { instanceId: string; requestedHostId?: string | null },
      context,
    ): Promise<{ hostId: string; uncached: { imageId: string; poolId: string }[]; volumeIds: string[] }> {
      const { operationId } = context;
      return placing(database, context, async (tx) => {
        const need = await needOf(tx, instanceId);
        const { volumes } = need;
        let hostId = need.claimedHostId;
        if (!hostId) {
          const pools = await poolsOf(tx, need.zoneId, imagesOf(volumes));
          const only = requestedHostId ?? null;
          const clusterIds = await runningClusters(tx, need, reachingClusters(pools, volumes));
          const eligible = { clusterIds, only, except: null };
          const preferred = only ?? need.lastHostId;
          let host = preferred ? await takeHost(tx, operationId, need, { ...eligible, only: preferred }) : null;
          if (!host && !only) host = await takeHost(tx, operationId, need, eligible);
          if (!host) return noCapacity(tx, need, eligible);
          const { clusterId } = host;
          hostId = host.hostId;
          const chosen = choosePools(pools, volumes, clusterId);
          const unplaced = volumes.filter((volume) => !volume.poolId);
          await run(
            tx,
            `WITH placed AS (UPDATE "volume" v SET "poolId" = p."poolId" FROM unnest($3::uuid[], $4::uuid[]) AS p(id, "poolId") WHERE v.id = p.id)
             UPDATE "instance" SET "hostId" = $2, "desiredPower" = 'on', "stateReason" = NULL WHERE id = $1`,
            [instanceId, hostId, unplaced.map(({ id }) => id), unplaced.map(({ id }) => chosen?.get(id))],
          );
        }
        // A copy that is there stays there until these volumes are known to live on it: who removes copies waits for this lock.
        const uncached = await run<{ imageId: string; poolId: string }>(
          tx,
          `WITH wanted AS (
             SELECT DISTINCT (v.source->>'imageId')::uuid AS "imageId", v."poolId" FROM "volume" v
             WHERE v."instanceId" = $1 AND v.state = 'creating' AND v.source->>'imageId' IS NOT NULL),
           kept AS (
             SELECT c."imageId", c."poolId" FROM "imageCache" c WHERE (c."imageId", c."poolId") IN (SELECT "imageId", "poolId" FROM wanted)
               AND c.state = 'ready' FOR SHARE)
           SELECT "imageId", "poolId" FROM wanted EXCEPT SELECT "imageId", "poolId" FROM kept`,
          [instanceId],
        );
        return { hostId, uncached, volumeIds: volumes.map((volume) => volume.id) };
      });
    },
    undoText: 'drop claim',
    async undo({ instanceId }, context) {
      const { operationId } = context;
      await asHolder(database, context, async (tx) => {
        await run(
          tx,
          `UPDATE "instance" SET "hostId" = NULL, "desiredPower" = 'off' WHERE id = $1 AND EXISTS (SELECT 1 FROM "hostClaim" c WHERE c."instanceId" = $1 AND c."operationId" = $2)`,
          [instanceId, operationId],
        );
        await dropClaims(tx, '"instanceId" = $1 AND "operationId" = $2', [instanceId, operationId]);
      });
    },
  }),

  /** The instance has left its host. */
  release: step({
    system: 'placement',
    async do({ instanceId }: { instanceId: string }, context) {
      await asHolder(database, context, async (tx) => {
        await run(
          tx,
          `UPDATE "instance" SET "lastHostId" = coalesce("hostId", "lastHostId"), "hostId" = NULL, "desiredPower" = 'off', "stateReason" = NULL WHERE id = $1`,
          [instanceId],
        );
        await dropClaims(tx, '"instanceId" = $1', [instanceId]);
      });
    },
  }),

  /** As release, for an instance that is destroyed; the undo takes the very room back. */
  vacate: step({
    system: 'placement',
    async do({ instanceId }: { instanceId: string; hostId: string }, context) {
      await asHolder(database, context, async (tx) => {
        await run(
          tx,
          `UPDATE "instance" SET "lastHostId" = coalesce("hostId", "lastHostId"), "hostId" = NULL WHERE id = $1`,
          [instanceId],
        );
        await dropClaims(tx, '"instanceId" = $1', [instanceId]);
      });
    },
    undoText: 'claim again',
    async undo({ instanceId, hostId }, context) {
      const { operationId } = context;
      await asHolder(database, context, async (tx) => {
        const need = await needOf(tx, instanceId);
        await run(tx, `UPDATE "instance" SET "hostId" = $2 WHERE id = $1`, [instanceId, hostId]);
        const taken = await run(
          tx,
          `INSERT INTO "hostClaim" ("instanceId", "hostId", "operationId", vcpus, "memoryMib") VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING RETURNING 1`,
          [instanceId, hostId, operationId, need.vcpus, need.memoryMib],
        );
        if (taken.length > 0)
          await run(
            tx,
            `UPDATE "hostCapacity" SET "claimedVcpus" = "claimedVcpus" + $2, "claimedMemoryMib" = "claimedMemoryMib" + $3 WHERE "hostId" = $1`,
            [hostId, need.vcpus, need.memoryMib],
          );
      });
    },
  }),

  /** Room on another host of the same cluster; both claims are held while the guest is on its way. */
  reserveMove: step({
    system: 'placement',
    async do(
      { instanceId, hostId }: { instanceId: string; hostId?: string | null },
      context,
    ): Promise<{ sourceHostId: string; targetHostId: string }> {
      const { operationId } = context;
      return asHolder(database, context, async (tx) => {
        const need = await needOf(tx, instanceId);
        const source = need.hostId;
        if (!source) throw refuse('INVALID_STATE', `instance ${instanceId} is on no host`);
        await mustAnswer(tx, source);
        if (hostId === source)
          throw refuse('INVALID_ARGUMENT', `instance ${instanceId} already runs on host ${hostId}`);
        const [claimed] = await run<{ hostId: string }>(
          tx,
          `SELECT "hostId" FROM "hostClaim" WHERE "instanceId" = $1 AND "operationId" = $2 AND "hostId" <> $3`,
          [instanceId, operationId, source],
        );
        if (claimed) return { sourceHostId: source, targetHostId: claimed.hostId };
        const [home] = await run<{ clusterId: string; kvm: boolean | null }>(
          tx,
          `SELECT "clusterId", kvm FROM "host" WHERE id = $1`,
          [source],
        );
        const eligible = { clusterIds: home ? [home.clusterId] : [], only: hostId ?? null, except: source };
        const target = (await takeHost(tx, operationId, need, eligible))?.hostId;
        if (!target) return noCapacity(tx, need, eligible);
        const [there] = await run<{ kvm: boolean | null }>(tx, `SELECT kvm FROM "host" WHERE id = $1`, [target]);
        if ((there?.kvm ?? null) !== (home?.kvm ?? null))
          throw refuse(
            'PRECONDITION_FAILED',
            `host ${target} ${there?.kvm ? 'runs guests with KVM' : 'emulates guests'}, the source does not: a running guest can not move there`,
          );
        return { sourceHostId: source, targetHostId: target };
      });
    },
    undoText: 'drop target claim',
    async undo({ instanceId }, context) {
      const { operationId } = context;
      await asHolder(database, context, (tx) =>
        dropClaims(
          tx,
          `"instanceId" = $1 AND "operationId" = $2 AND "hostId" <> coalesce((SELECT "hostId" FROM "instance" WHERE id = $1), $1)`,
          [instanceId, operationId],
        ),
      );
    },
  }),

  /** The instance is at home on its new host. */
  settleMove: step({
    system: 'placement',
    async do(
      {
        instanceId,
        sourceHostId,
        targetHostId,
      }: {
        instanceId: string;
        sourceHostId: string;
        targetHostId: string;
      },
      context,
    ) {
      await asHolder(database, context, async (tx) => {
        await run(tx, `UPDATE "instance" SET "hostId" = $2, "lastHostId" = $3 WHERE id = $1`, [
          instanceId,
          targetHostId,
          sourceHostId,
        ]);
        await dropClaims(tx, '"instanceId" = $1 AND "hostId" = $2', [instanceId, sourceHostId]);
      });
    },
  }),

  /** A pool for a volume that stands alone, and a host that reaches it to do the work. */
  reserveSpace: step({
    system: 'placement',
    async do(
      { volumeId }: { volumeId: string },
      context,
    ): Promise<{ poolId: string; hostId: string; uncached: boolean }> {
      return placing(database, context, async (tx) => {
        const [volume] = await run<VolumeNeed & { zoneId: string }>(
          tx,
          `SELECT v.id, v."zoneId", v."sizeGib", v."poolId", v.source->>'imageId' AS "imageId", ${onlyPoolOfVolume} AS "onlyPoolId", t."storageClass" FROM "volume" v JOIN "volumeType" t ON t.id = v."volumeTypeId" WHERE v.id = $1 FOR UPDATE OF v`,
          [volumeId],
        );
        if (!volume) throw refuse('NOT_FOUND', `volume ${volumeId} is gone`);
        const pools = await poolsOf(tx, volume.zoneId, imagesOf([volume]));
        reachingClusters(pools, [volume]);
        const poolId = choosePools(pools, [volume], null)?.get(volumeId);
        if (!poolId)
          throw refuse('NO_CAPACITY', `no pool of storage class ${volume.storageClass} has ${volume.sizeGib} GiB free`);
        await run(tx, `UPDATE "volume" SET "poolId" = $2 WHERE id = $1`, [volumeId, poolId]);
        const [cached] = await run(
          tx,
          `SELECT 1 FROM "imageCache" WHERE "imageId" = $1::uuid AND "poolId" = $2 AND state = 'ready' FOR SHARE`,
          [volume.imageId ?? null, poolId],
        );
        return {
          poolId,
          hostId: await reachingHost(tx, poolId),
          uncached: Boolean(volume.imageId) && !cached,
        };
      });
    },
    undoText: 'drop claim',
    async undo({ volumeId }, context) {
      await asHolder(database, context, (tx) =>
        run(
          tx,
          `UPDATE "volume" SET "poolId" = NULL WHERE id = $1 AND state = 'creating' AND "currentOperationId" = $2`,
          [volumeId, context.operationId],
        ),
      );
    },
  }),
});
