/** How a host is emptied for repair, and what comes back to it afterwards. */
import { setTimeout } from 'node:timers/promises';
import { Context } from '@temporalio/activity';
import type { Queryable } from '../../database/database.ts';
import { clientsOf } from '../../database/fence.ts';
import { noteReason } from '../../database/givingWay.ts';
import { from, statement, type Values } from '../../database/statement.ts';
import { refuse, tryAgain } from '../failure.ts';
import { asHolder } from '../holder.ts';
import { step } from '../step.ts';
import { driverOf } from '../storage/drivers/index.ts';
import { volumesOf } from '../storage/volume.ts';
import type { World } from '../world.ts';

interface HostRef {
  hostId: string;
}

/** What becomes of the instances of a host that enters maintenance. */
export type Leaving = 'migrate' | 'stop' | 'refuse';

/** An instance that has left for a maintenance, and how it left. */
export interface Left {
  id: string;
  by: 'instance.migrate' | 'instance.stop';
}

/** So long operations that are under way on instances there may take to end; with what a look takes it is less than the step has. */
const patienceMs = 1_700_000;
const lookMs = 500;
/** So many are named in a refusal. */
const namedBlockers = 20;

const openHost = statement((p: Values<{ hostId: string; operationId: string }>) =>
  from
    .updateTable('host')
    .set({ state: 'active', maintenanceReason: null })
    .where('id', '=', p.hostId)
    .where('state', '=', 'exitingMaintenance')
    .where('currentOperationId', '=', p.operationId)
    .returning('id'),
);

const closeHost = statement((p: Values<{ hostId: string; operationId: string }>) =>
  from
    .updateTable('host')
    .set((eb) => ({
      state: 'exitingMaintenance',
      maintenanceReason: eb
        .selectFrom('operation as m')
        .select((of) => of.cast<string | null>(of.ref('m.input', '->>').key('reason' as never), 'text').as('reason'))
        .where('m.targetId', '=', p.hostId)
        .where('m.type', '=', 'host.enterMaintenance')
        .where('m.state', '=', 'succeeded')
        .orderBy('m.createdAt', 'desc')
        .limit(1),
    }))
    .where('id', '=', p.hostId)
    .where('state', '=', 'active')
    .where('currentOperationId', '=', p.operationId)
    .returning('id'),
);

const failedHost = statement((p: Values<{ hostId: string }>) =>
  from.selectFrom('host').select('id').where('id', '=', p.hostId).where('state', 'in', ['fencing', 'fenced']),
);

/** In which state the operation leaves the host when it does not succeed. */
const leaveAs = statement((p: Values<{ hostId: string; operationId: string; state: string }>) =>
  from
    .updateTable('operationLock')
    .set({ fromState: p.state })
    .where('operationId', '=', p.operationId)
    .where('resourceKind', '=', 'host')
    .where('resourceId', '=', p.hostId)
    .where('entered', '=', true),
);

/** Nobody is placed there until the transaction ends. */
const lockRoom = statement((p: Values<{ hostId: string }>) =>
  from.selectFrom('hostCapacity').select('hostId').where('hostId', '=', p.hostId).forUpdate(),
);

/**
 * Whatever has a place there: what runs, what is about to, and what is coming from another host. `busy` is what somebody is at work on, or waits to be;
 * of what is `doubted` it is about to be asked whether it still runs.
 */
const placedOn = statement((p: Values<{ hostId: string }>) =>
  from
    .selectFrom('hostClaim as c')
    .innerJoin('instance as i', 'i.id', 'c.instanceId')
    .leftJoin('operation as o', 'o.id', 'i.currentOperationId')
    .select((eb) => [
      'i.id',
      'i.name',
      'i.hostId',
      eb.or([eb('i.fault', 'is not', null), eb('o.state', '=', 'stuck')]).as('stuck'),
      eb('c.doubtedAt', 'is not', null).as('doubted'),
      eb
        .or([
          eb('i.currentOperationId', 'is not', null),
          eb.exists(
            eb
              .selectFrom('operationLock as l')
              .select('l.operationId')
              .where('l.resourceKind', '=', 'instance')
              .whereRef('l.resourceId', '=', 'i.id')
              .where('l.mode', '<>', 'S'),
          ),
        ])
        .as('busy'),
    ])
    .where('c.hostId', '=', p.hostId)
    .orderBy('i.id')
    .$narrowType<{ stuck: boolean; doubted: boolean; busy: boolean }>(),
);

/** What has left for this maintenance, in however many tries, and is still as it was left then. */
const leftFor = statement((p: Values<{ hostId: string }>) =>
  from
    .selectFrom('operation as m')
    .innerJoin('operation as o', 'o.parentOperationId', 'm.id')
    .innerJoin('instance as i', 'i.id', 'o.targetId')
    .select(['i.id', 'o.type'])
    .distinctOn('i.id')
    .where('m.targetId', '=', p.hostId)
    .where('m.type', '=', 'host.enterMaintenance')
    .where('m.createdAt', '>', (eb) =>
      eb
        .selectFrom('operation as e')
        .select((of) => of.fn.coalesce(of.fn.max('e.createdAt'), of.val(new Date(0))).as('at'))
        .where('e.targetId', '=', p.hostId)
        .where('e.type', '=', 'host.exitMaintenance')
        .where('e.state', '=', 'succeeded'),
    )
    .where('o.state', '=', 'succeeded')
    .where('i.deletedAt', 'is', null)
    .where('i.lastHostId', '=', p.hostId)
    .where((eb) =>
      eb.or([
        eb.and([eb('o.type', '=', 'instance.migrate'), eb('i.state', '=', 'running')]),
        eb.and([eb('o.type', '=', 'instance.stop'), eb('i.state', '=', 'stopped')]),
      ]),
    )
    .orderBy('i.id')
    .orderBy('o.createdAt', 'desc')
    .$narrowType<{ type: Left['by'] }>(),
);

type Placed = Awaited<ReturnType<typeof placedOn>>[number];

const blockers = (placed: readonly Placed[]) => ({
  blockers: placed.slice(0, namedBlockers).map(({ id, name }) => ({ kind: 'instance', id, name })),
});

const count = (placed: readonly Placed[]): string =>
  placed.length === 1 ? 'an instance' : `${placed.length} instances`;

async function refuseFailed(on: Queryable, hostId: string, why: string): Promise<void> {
  const [failed] = await failedHost(on, { hostId });
  if (failed) throw refuse('HOST_FENCED', `host ${hostId} has failed: ${why}`, { hostId });
}

export const hostMaintenance = (world: World) => {
  const { database } = world;
  const { connections } = database;

  return {
    /** Placement has not used it since its state says that it enters maintenance. */
    noteMaintenance: step({
      system: 'record',
      do: ({ hostId, reason }: HostRef & { reason: string | null }, context) =>
        asHolder(database, context, async (tx) => {
          await noteReason(tx, { hostId, operationId: context.operationId, reason });
        }),
      undoText: 'take the reason back',
      undo: ({ hostId }, context) =>
        asHolder(database, context, async (tx) => {
          await noteReason(tx, { hostId, operationId: context.operationId, reason: null });
        }),
    }),

    /**
     * The instances that are there, those that nobody is at work on first; none once nothing has a place there any more. While there are only such that
     * are on their way, it waits: they come, go or end by themselves.
     */
    findLeaving: step({
      system: 'record',
      async do({ hostId, instances }: HostRef & { instances: Leaving }): Promise<{ id: string; busy: boolean }[]> {
        const { cancellationSignal: signal } = Context.current();
        for (const end = performance.now() + patienceMs; ; await setTimeout(lookMs, undefined, { signal })) {
          await refuseFailed(connections, hostId, 'its failover starts elsewhere what is still on it');
          const placed = await placedOn(connections, { hostId });
          if (placed.length === 0) return [];
          if (instances === 'refuse')
            throw refuse(
              'HAS_DEPENDENTS',
              `${count(placed)} on host ${hostId}: let them migrate, or stop`,
              blockers(placed),
            );
          const stuck = placed.filter((one) => one.stuck);
          const there = placed.filter((one) => one.hostId === hostId && !one.stuck && !one.doubted);
          if (there.length > 0)
            return there
              .map(({ id, busy }) => ({ id, busy }))
              .sort((one, other) => Number(one.busy) - Number(other.busy));
          if (stuck.length > 0)
            throw refuse(
              'RESOURCE_FAULTED',
              `operations on ${count(stuck)} of host ${hostId} are stuck`,
              blockers(stuck),
            );
          if (performance.now() > end)
            throw refuse(
              'RESOURCE_BUSY',
              `operations on ${count(placed)} of host ${hostId} do not end`,
              blockers(placed),
            );
        }
      },
    }),

    /** What the records say the host is asked for: no guest of this platform is left on it, and it has no disk of those open that have left it. */
    proveEmpty: step({
      system: 'host',
      async do({ hostId }: HostRef) {
        const { domains } = await (await world.host(hostId)).call('host.inventory', {});
        const left = domains.filter(({ tags }) => tags?.kind === 'instance');
        if (left.length > 0)
          throw refuse(
            'PRECONDITION_FAILED',
            `host ${hostId} still has guests that the records know nothing of: ${left
              .slice(0, namedBlockers)
              .map(({ id }) => id)
              .join(', ')}`,
          );
        const clients = await clientsOf(database.connections, { hostId });
        const own = new Set(clients.flatMap(({ addresses }) => addresses));
        for (const { id } of await leftFor(database.connections, { hostId }))
          for (const volume of await volumesOf(world, id))
            if ((await driverOf(volume.pool).openAt(world, volume, hostId)).some((address) => own.has(address)))
              throw tryAgain(
                'RESOURCE_BUSY',
                `host ${hostId} still has volume ${volume.id} open, whose instance has left it`,
              );
      },
    }),

    /**
     * Placement may use it again: whoever comes back could not be placed there before. Once somebody is there it stays in use, whatever becomes of
     * the operation.
     */
    reopen: step({
      system: 'record',
      do: ({ hostId }: HostRef, context) =>
        asHolder(database, context, async (tx) => {
          const host = { hostId, operationId: context.operationId };
          const [opened] = await openHost(tx, host);
          if (opened) await leaveAs(tx, { ...host, state: 'active' });
          else await refuseFailed(tx, hostId, 'it is taken back into use by reinstate');
        }),
      undoText: 'close it again while it is empty',
      undo: ({ hostId }, context) =>
        asHolder(database, context, async (tx) => {
          const host = { hostId, operationId: context.operationId };
          await lockRoom(tx, { hostId });
          if ((await placedOn(tx, { hostId })).length > 0) return;
          const [closed] = await closeHost(tx, host);
          if (closed) await leaveAs(tx, { ...host, state: 'maintenance' });
        }),
    }),

    findReturning: step({
      system: 'record',
      async do({ hostId }: HostRef): Promise<Left[]> {
        return (await leftFor(connections, { hostId })).map(({ id, type }) => ({ id, by: type }));
      },
    }),
  };
};
