import { passSnapshot, placeSnapshot } from '../../database/pools.ts';
import { from, statement, type Values } from '../../database/statement.ts';
import { refuse } from '../failure.ts';
import { asHolder } from '../holder.ts';
import { mustAnswer } from '../silence.ts';
import { type StepContext, step } from '../step.ts';
import type { World } from '../world.ts';
import { driverOf, mustBeAble } from './drivers/index.ts';
import { snapshotName } from './names.ts';
import { poolAgent, reachingHost } from './poolHost.ts';
import { oneOf } from './volume.ts';

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

const runningGuest = statement((p: Values<{ volumeId: string }>) =>
  from
    .selectFrom('volume as v')
    .innerJoin('instance as i', 'i.id', 'v.instanceId')
    .select('i.id')
    .where('v.id', '=', p.volumeId)
    .where('i.hostId', 'is not', null),
);

/** @throws NOT_SUPPORTED */
export async function takeSnapshot(
  world: World,
  { snapshotId, hostId }: OnHost,
  { operationId }: StepContext,
): Promise<void> {
  const { snapshot, pool } = await find(world, snapshotId);
  mustBeAble(pool, 'snapshot');
  const [running] = await runningGuest(world.database.connections, { volumeId: snapshot.volumeId });
  if (running) mustBeAble(pool, 'snapshotInUse');
  const { id, projectId, revision, volumeId } = snapshot;
  const tags = { id, kind: 'snapshot', operation: operationId, revision, projectId };
  const agent = await poolAgent(world, hostId, pool);
  await driverOf(pool).ensureSnapshot(agent, pool, volumeId, { name: snapshotName(id), tags, instanceId: running?.id });
}

export async function removeSnapshot(world: World, { snapshotId, hostId }: OnHost): Promise<void> {
  const { snapshot, pool } = await find(world, snapshotId);
  const [running] = await runningGuest(world.database.connections, { volumeId: snapshot.volumeId });
  const agent = await poolAgent(world, hostId, pool);
  const removed = { name: snapshotName(snapshotId), instanceId: running?.id };
  await driverOf(pool).ensureSnapshotAbsent(agent, pool, snapshot.volumeId, removed);
}

async function find(world: World, snapshotId: string) {
  const snapshot = await world.database.prisma.snapshot.findUniqueOrThrow({ where: { id: snapshotId } });
  const { pool } = await oneOf(world, snapshot.volumeId);
  return { snapshot, pool };
}

export const snapshots = (world: World) => {
  const { prisma, connections } = world.database;

  return {
    /** What the records say of a snapshot's volume and of the guest that uses it. */
    locate: step({
      system: 'record',
      async do({ snapshotId }: SnapshotRef): Promise<LocatedSnapshot> {
        const snapshot = await prisma.snapshot.findUniqueOrThrow({ where: { id: snapshotId } });
        const volume = await prisma.volume.findUniqueOrThrow({ where: { id: snapshot.volumeId } });
        if (!volume.poolId) throw refuse('INVALID_STATE', `volume ${volume.id} is in no pool`);
        const instance = volume.instanceId
          ? await prisma.instance.findUnique({ where: { id: volume.instanceId } })
          : null;
        const freezeInstanceId = snapshot.quiesce && instance?.hostId ? instance.id : null;
        if (freezeInstanceId) await mustAnswer(world.database.connections, instance);
        return {
          hostId: instance?.hostId ?? (await reachingHost(connections, volume.poolId)),
          volumeId: volume.id,
          sizeGib: snapshot.sizeGib ?? volume.sizeGib ?? 0,
          freezeInstanceId,
        };
      },
    }),

    /** Where it lies, how large it is, and which snapshot of the volume came before it. */
    describe: step({
      system: 'record',
      async do({ snapshotId, frozen }: SnapshotRef & { frozen: boolean }, context) {
        await asHolder(world.database, context, (tx) => placeSnapshot(tx, { id: snapshotId, frozen }));
      },
    }),

    remove: step({ system: 'rbd', do: (input: OnHost) => removeSnapshot(world, input) }),

    /** Snapshots that followed a removed one follow the one before it. */
    rejoin: step({
      system: 'record',
      async do({ snapshotId }: SnapshotRef, context) {
        await asHolder(world.database, context, (tx) => passSnapshot(tx, { id: snapshotId }));
      },
    }),
  };
};
