/** Which host and which pools carry an instance, guarded by claims: a claim is inserted under a check of free capacity. */
import {
  dropClaimOn,
  dropClaims,
  dropClaimsOf,
  dropMoveOf,
  insertClaim,
  keepCopyFor,
  leaveHost,
  lockPlacedVolume,
  type Placed,
  place,
  placedInstance,
  setHost,
  settleOn,
  takeRoom,
  uncachedOf,
  unplace,
  vacateHost,
} from '../../database/claims.ts';
import type { Database, Transaction } from '../../database/database.ts';
import {
  choosePools,
  claimFreeHost,
  claimHost,
  type Eligible,
  hostQuestion,
  imagesOf,
  noCapacity,
  poolsOf,
  reachOf,
  runningHosts,
} from '../../database/placement.ts';
import { from, statement, type Values } from '../../database/statement.ts';
import { isOutOfRoom } from '../../database/uniqueness.ts';
import { refuse } from '../failure.ts';
import { asHolder } from '../holder.ts';
import { mustAnswer } from '../silence.ts';
import { type StepContext, step } from '../step.ts';
import { mustBeAble } from '../storage/drivers/index.ts';
import { poolOf } from '../storage/pool.ts';
import { reachingHost } from '../storage/poolHost.ts';
import type { World } from '../world.ts';

const otherClaimOf = statement((p: Values<{ instanceId: string; operationId: string; hostId: string }>) =>
  from
    .selectFrom('hostClaim')
    .select('hostId')
    .where('instanceId', '=', p.instanceId)
    .where('operationId', '=', p.operationId)
    .where('hostId', '<>', p.hostId),
);

const machineOf = statement((p: Values<{ hostId: string }>) =>
  from.selectFrom('host').select(['clusterId', 'kvm']).where('id', '=', p.hostId),
);

const setPool = statement((p: Values<{ volumeId: string; poolId: string }>) =>
  from.updateTable('volume').set({ poolId: p.poolId }).where('id', '=', p.volumeId),
);

const dropPool = statement((p: Values<{ volumeId: string; operationId: string }>) =>
  from
    .updateTable('volume')
    .set({ poolId: null })
    .where('id', '=', p.volumeId)
    .where('state', '=', 'creating')
    .where('currentOperationId', '=', p.operationId),
);

async function needOf(tx: Transaction, instanceId: string): Promise<Placed> {
  const [row] = await placedInstance(tx, { instanceId });
  if (!row) throw refuse('NOT_FOUND', `instance ${instanceId} is gone`);
  return row;
}

/** Takes room on the host with the most free memory; hosts that another placement holds right now are passed over first. */
async function takeHost(
  tx: Transaction,
  operationId: string,
  need: Placed,
  eligible: Eligible,
): Promise<{ hostId: string; clusterId: string } | null> {
  const claim = { ...hostQuestion(need, eligible), instanceId: need.instanceId, operationId };
  const [free] = await claimFreeHost(tx, claim);
  if (free) return free;
  const [host] = await claimHost(tx, claim);
  return host ?? null;
}

/** More than there are pools that could fill up one after another under the eyes of one placement. */
const maxChoices = 8;

/**
 * A placement chooses by what it sees, and the database decides when it takes: where others have taken the room of the chosen pool meanwhile, it
 * chooses again, from what is left.
 */
async function placing<T>(database: Database, context: StepContext, body: (tx: Transaction) => Promise<T>): Promise<T> {
  for (let choice = 1; ; choice++) {
    try {
      return await asHolder(database, context, body);
    } catch (error) {
      if (choice === maxChoices || !isOutOfRoom(error)) throw error;
    }
  }
}

export const placement = (world: World, { database } = world) => ({
  /** A host for the instance and a pool for each of its volumes that has none yet. */
  reserve: step({
    system: 'placement',
    async do(
      {
        instanceId,
        requestedHostId,
        fromReserve = false,
      }: { instanceId: string; requestedHostId?: string | null; fromReserve?: boolean },
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
          const eligible = {
            ...(await runningHosts(tx, need, reachOf(pools, volumes))),
            only,
            except: null,
            avoid: need.failedHostIds,
            fromReserve,
          };
          const last = need.lastHostId && need.failedHostIds.includes(need.lastHostId) ? null : need.lastHostId;
          const preferred = only ?? last;
          let host = preferred ? await takeHost(tx, operationId, need, { ...eligible, only: preferred }) : null;
          if (!host && !only) host = await takeHost(tx, operationId, need, eligible);
          if (!host) return noCapacity(tx, need, eligible);
          hostId = host.hostId;
          // With the host's own disks there is more to choose from, and so sometimes no way to fit.
          const chosen = choosePools(pools, volumes, host) ?? choosePools(pools, volumes, { ...host, hostId: null });
          if (!chosen) return noCapacity(tx, need, eligible);
          const unplaced = volumes.filter((volume) => !volume.poolId);
          await place(tx, {
            instanceId,
            hostId,
            volumeIds: unplaced.map(({ id }) => id),
            poolIds: unplaced.map(({ id }) => chosen.get(id)),
          });
        }
        const uncached = await uncachedOf(tx, { instanceId });
        return { hostId, uncached, volumeIds: volumes.map((volume) => volume.id) };
      });
    },
    undoText: 'drop claim',
    async undo({ instanceId }, context) {
      const { operationId } = context;
      await asHolder(database, context, async (tx) => {
        await unplace(tx, { instanceId, operationId });
        await dropClaimsOf(tx, { instanceId, operationId });
      });
    },
  }),

  /** The instance has left its host. */
  release: step({
    system: 'placement',
    async do({ instanceId }: { instanceId: string }, context) {
      await asHolder(database, context, async (tx) => {
        await leaveHost(tx, { instanceId });
        await dropClaims(tx, { instanceId });
      });
    },
  }),

  /** As release, for an instance that is destroyed; the undo takes the very room back. */
  vacate: step({
    system: 'placement',
    async do({ instanceId }: { instanceId: string; hostId: string }, context) {
      await asHolder(database, context, async (tx) => {
        await vacateHost(tx, { instanceId });
        await dropClaims(tx, { instanceId });
      });
    },
    undoText: 'claim again',
    async undo({ instanceId, hostId }, context) {
      const { operationId } = context;
      await asHolder(database, context, async (tx) => {
        const need = await needOf(tx, instanceId);
        const { vcpus, memoryMib } = need;
        await setHost(tx, { instanceId, hostId });
        const [taken] = await insertClaim(tx, { instanceId, hostId, operationId, vcpus, memoryMib });
        if (taken) await takeRoom(tx, { hostId, vcpus, memoryMib });
      });
    },
  }),

  /** Its place on a host that has failed is nobody's any more. What it wants to be stays. */
  abandon: step({
    system: 'placement',
    async do({ instanceId }: { instanceId: string }, context) {
      await asHolder(database, context, async (tx) => {
        await vacateHost(tx, { instanceId });
        await dropClaims(tx, { instanceId });
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
        await mustAnswer(tx, { id: instanceId, hostId: source });
        if (hostId === source)
          throw refuse('INVALID_ARGUMENT', `instance ${instanceId} already runs on host ${hostId}`);
        for (const { poolId } of need.volumes) mustBeAble(await poolOf(world, poolId), 'liveMove');
        const [claimed] = await otherClaimOf(tx, { instanceId, operationId, hostId: source });
        if (claimed) return { sourceHostId: source, targetHostId: claimed.hostId };
        const [home] = await machineOf(tx, { hostId: source });
        const eligible = {
          clusterIds: home ? [home.clusterId] : [],
          hostIds: [],
          only: hostId ?? null,
          except: source,
        };
        const target = (await takeHost(tx, operationId, need, eligible))?.hostId;
        if (!target) return noCapacity(tx, need, eligible);
        const [there] = await machineOf(tx, { hostId: target });
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
      await asHolder(database, context, (tx) => dropMoveOf(tx, { instanceId, operationId }));
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
        await settleOn(tx, { instanceId, hostId: targetHostId, lastHostId: sourceHostId });
        await dropClaimOn(tx, { instanceId, hostId: sourceHostId });
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
        const [volume] = await lockPlacedVolume(tx, { volumeId });
        if (!volume) throw refuse('NOT_FOUND', `volume ${volumeId} is gone`);
        const pools = await poolsOf(tx, volume.zoneId, imagesOf([volume]));
        reachOf(pools, [volume]);
        const poolId = choosePools(pools, [volume], null)?.get(volumeId);
        if (!poolId)
          throw refuse('NO_CAPACITY', `no pool of storage class ${volume.storageClass} has ${volume.sizeGib} GiB free`);
        await setPool(tx, { volumeId, poolId });
        const [cached] = await keepCopyFor(tx, { imageId: volume.imageId ?? null, poolId });
        return {
          poolId,
          hostId: await reachingHost(tx, poolId),
          uncached: Boolean(volume.imageId) && !cached,
        };
      });
    },
    undoText: 'drop claim',
    async undo({ volumeId }, context) {
      await asHolder(database, context, (tx) => dropPool(tx, { volumeId, operationId: context.operationId }));
    },
  }),
});
