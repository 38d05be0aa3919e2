import { trustPlace } from '../../database/claims.ts';
import { insertAll, type Transaction } from '../../database/database.ts';
import { eventRow, loseInstance, stopForReason } from '../../database/events.ts';
import { openVolumes } from '../../database/fence.ts';
import { from, statement, type Values } from '../../database/statement.ts';
import { refuse } from '../failure.ts';
import { asHolder } from '../holder.ts';
import { isGone, mustAnswer } from '../silence.ts';
import { step } from '../step.ts';
import { reachingHost } from '../storage/poolHost.ts';
import type { World } from '../world.ts';

export interface Located {
  /** Where it runs; null when it does not. */
  hostId: string | null;
  /** Where work on its disks is done. */
  storageHostId: string;
  volumeIds: string[];
}

/** Answers a row for the first time. */
const leaveAs = statement((p: Values<{ operationId: string; instanceId: string; state: string }>) =>
  from
    .updateTable('operationLock')
    .set({ toState: p.state })
    .where('operationId', '=', p.operationId)
    .where('resourceKind', '=', 'instance')
    .where('resourceId', '=', p.instanceId)
    .where('toState', 'is distinct from', p.state)
    .returning('resourceId'),
);

const letGoOfData = statement((p: Values<{ instanceId: string }>) =>
  from
    .updateTable('volume')
    .set({ instanceId: null, deviceIndex: null })
    .where('instanceId', '=', p.instanceId)
    .where('role', '=', 'data'),
);

const standingOf = statement((p: Values<{ instanceId: string; operationId: string }>) =>
  from
    .selectFrom('instance as i')
    .innerJoin('operationLock as l', 'l.resourceId', 'i.id')
    .leftJoin('host as h', 'h.id', 'i.hostId')
    .select(['i.hostId', 'h.fencedAt', 'l.fromState'])
    .where('i.id', '=', p.instanceId)
    .where('l.operationId', '=', p.operationId),
);

/** Those who follow instances learn in which state an operation leaves one that it was not asked to bring there. */
const tell = (
  tx: Transaction,
  of: { instanceId: string; operationId: string; state: 'stopped' | 'lost'; row: { projectId: string } },
): Promise<void> =>
  insertAll(tx, {
    event: [
      eventRow({
        type: `instance.${of.state}`,
        resourceKind: 'instance',
        resourceId: of.instanceId,
        projectId: of.row.projectId,
        operationId: of.operationId,
        payload: { ...of.row, state: of.state },
      }),
    ],
  });

const waits = 'its host has failed; it is started elsewhere as soon as there is room';
const startsAgain = 'its host has started anew; it is started again as soon as there is room';

export const instances = (world: World) => ({
  /**
   * From now on the instance is lost, whatever becomes of the operation. Answers the host that failed while the instance has its place there; refuses to
   * let go of that while the guest could still write.
   */
  lose: step({
    system: 'record',
    async do({ instanceId }: { instanceId: string }, context): Promise<{ hostId: string | null }> {
      const { operationId } = context;
      const { connections } = world.database;
      const [standing] = await standingOf(connections, { instanceId, operationId });
      const hostId = standing?.hostId ?? null;
      const isFenced = standing?.fencedAt != null;
      if (standing?.fromState === 'running' && !isFenced)
        throw refuse('PRECONDITION_FAILED', `the host of instance ${instanceId} has not failed`);
      const lose = (reason: string): Promise<void> =>
        asHolder(world.database, context, async (tx) => {
          const [row] = await loseInstance(tx, { instanceId, operationId, reason });
          if (row && standing?.fromState !== 'lost') await tell(tx, { instanceId, operationId, state: 'lost', row });
        });
      if (hostId && isFenced && !(await isGone(world, { instanceId, hostId }))) {
        const [open] = await openVolumes(connections, { instanceId, hostId });
        const confirmed = open?.type === 'local' ? '' : ', or when an operator has confirmed that the host is off';
        const reason = `its host has failed, and could still write to volume ${open?.id}: its pool, of type ${open?.type}, does not shut it out. It is started when the host is back${confirmed}`;
        await lose(reason);
        throw refuse('PRECONDITION_FAILED', reason);
      }
      await lose(waits);
      return { hostId };
    },
  }),

  /** Its host has started anew without it. It has its place there until it is started again. */
  becomeLost: step({
    system: 'record',
    async do({ instanceId }: { instanceId: string }, context) {
      const { operationId } = context;
      await asHolder(world.database, context, async (tx) => {
        const [first] = await leaveAs(tx, { operationId, instanceId, state: 'lost' });
        if (!first) return;
        const [row] = await loseInstance(tx, { instanceId, operationId, reason: startsAgain });
        if (row) await tell(tx, { instanceId, operationId, state: 'lost', row });
      });
    },
  }),

  /** What the records say of where an instance and its own volumes are. Whoever asks is about to work on its host, so that has to answer. */
  locate: step({
    system: 'record',
    async do({ instanceId }: { instanceId: string }): Promise<Located> {
      const { prisma, connections } = world.database;
      const instance = await prisma.instance.findUniqueOrThrow({ where: { id: instanceId } });
      await mustAnswer(world.database.connections, instance);
      const root = instance.rootVolumeId
        ? await prisma.volume.findUnique({ where: { id: instance.rootVolumeId } })
        : null;
      if (!root?.poolId) throw refuse('INVALID_STATE', `instance ${instanceId} has no root volume`);
      return {
        hostId: instance.hostId,
        storageHostId: instance.hostId ?? (await reachingHost(connections, root.poolId)),
        volumeIds: instance.keepRootVolume ? [] : [root.id],
      };
    },
  }),

  /** The host has said that the guest runs: what was heard before it was asked is answered. */
  trust: step({
    system: 'record',
    async do({ instanceId, hostId, askedAt }: { instanceId: string; hostId: string; askedAt: string }, context) {
      await asHolder(world.database, context, (tx) => trustPlace(tx, { instanceId, hostId, askedAt }));
    },
  }),

  /** The operation, which found the guest off, leaves the instance stopped; those who follow stopped instances are told. */
  becomeStopped: step({
    system: 'record',
    async do({ instanceId, reason }: { instanceId: string; reason: string }, context) {
      const { operationId } = context;
      await asHolder(world.database, context, async (tx) => {
        const [first] = await leaveAs(tx, { operationId, instanceId, state: 'stopped' });
        if (!first) return;
        const [row] = await stopForReason(tx, { instanceId, reason });
        if (row) await tell(tx, { instanceId, operationId, state: 'stopped', row });
      });
    },
  }),

  /** The instance's end in the records, beyond its own state: interfaces free their addresses when the operation leaves them. */
  forget: step({
    system: 'record',
    async do({ instanceId }: { instanceId: string }, context) {
      await asHolder(world.database, context, (tx) => letGoOfData(tx, { instanceId }));
    },
  }),
});
