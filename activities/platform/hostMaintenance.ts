/** How a host is emptied for repair, and what comes back to it afterwards. */
import { setTimeout } from 'node:timers/promises';
import { Context } from '@temporalio/activity';
import { from, statement, type Values } from '../../database/statement.ts';
import { refuse } from '../failure.ts';
import { asHolder } from '../holder.ts';
import { step } from '../step.ts';
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

const noteReason = statement((p: Values<{ hostId: string; operationId: string; reason: string | null }>) =>
  from
    .updateTable('host')
    .set({ maintenanceReason: p.reason })
    .where('id', '=', p.hostId)
    .where('currentOperationId', '=', p.operationId),
);

const setState = statement(
  (
    p: Values<{
      hostId: string;
      operationId: string;
      before: 'active' | 'exitingMaintenance';
      after: 'active' | 'exitingMaintenance';
    }>,
  ) =>
    from
      .updateTable('host')
      .set({ state: p.after })
      .where('id', '=', p.hostId)
      .where('state', '=', p.before)
      .where('currentOperationId', '=', p.operationId),
);

/** Whatever has a place there: what runs, what is about to, and what is coming from another host. */
const placedOn = statement((p: Values<{ hostId: string }>) =>
  from
    .selectFrom('hostClaim as c')
    .innerJoin('instance as i', 'i.id', 'c.instanceId')
    .select(['i.id', 'i.name', 'i.state', 'i.hostId', 'i.currentOperationId', 'i.fault'])
    .where('c.hostId', '=', p.hostId)
    .orderBy('i.id'),
);

/** What left for the last maintenance, and is still as it was left then. */
const leftFor = statement((p: Values<{ hostId: string }>) =>
  from
    .selectFrom('operation as o')
    .innerJoin('instance as i', 'i.id', 'o.targetId')
    .select(['i.id', 'o.type'])
    .where('o.parentOperationId', '=', (eb) =>
      eb
        .selectFrom('operation as m')
        .select('m.id')
        .where('m.targetId', '=', p.hostId)
        .where('m.type', '=', 'host.enterMaintenance')
        .where('m.state', '=', 'succeeded')
        .orderBy('m.createdAt', 'desc')
        .limit(1),
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
    .$narrowType<{ type: Left['by'] }>(),
);

type Placed = Awaited<ReturnType<typeof placedOn>>[number];

const blockers = (placed: readonly Placed[]) => ({
  blockers: placed.slice(0, namedBlockers).map(({ id, name }) => ({ kind: 'instance', id, name })),
});

const count = (placed: readonly Placed[]): string =>
  placed.length === 1 ? 'an instance' : `${placed.length} instances`;

export const hostMaintenance = (world: World) => {
  const { database } = world;
  const { pool } = database;

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
     * The instances that run there and that nobody is at work on; none once nothing has a place there any more. While there are only such that
     * somebody is at work on, it waits: they come, go or end by themselves.
     */
    findLeaving: step({
      system: 'record',
      async do({ hostId, instances }: HostRef & { instances: Leaving }): Promise<string[]> {
        const { cancellationSignal: signal } = Context.current();
        for (const end = performance.now() + patienceMs; ; await setTimeout(lookMs, undefined, { signal })) {
          const placed = await placedOn(pool, { hostId });
          if (placed.length === 0) return [];
          if (instances === 'refuse')
            throw refuse(
              'HAS_DEPENDENTS',
              `${count(placed)} on host ${hostId}: let them migrate, or stop`,
              blockers(placed),
            );
          const idle = placed.filter(({ currentOperationId }) => currentOperationId === null);
          const able = idle.filter((one) => one.state === 'running' && one.hostId === hostId);
          if (able.length > 0) return able.map(({ id }) => id);
          if (idle.length > 0)
            throw refuse(
              'PRECONDITION_FAILED',
              `${count(idle)} on host ${hostId} can neither run nor leave: see what is wrong with each`,
              blockers(idle),
            );
          const stuck = placed.filter(({ fault }) => fault !== null);
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

    /** What the records say the host is asked for: no guest of this platform is left on it. */
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
      },
    }),

    /** Placement may use it again. Whoever comes back could not be placed there before. */
    reopen: step({
      system: 'record',
      do: ({ hostId }: HostRef, context) =>
        asHolder(database, context, async (tx) => {
          const { operationId } = context;
          await setState(tx, { hostId, operationId, before: 'exitingMaintenance', after: 'active' });
        }),
      undoText: 'close it again',
      undo: ({ hostId }, context) =>
        asHolder(database, context, async (tx) => {
          const { operationId } = context;
          await setState(tx, { hostId, operationId, before: 'active', after: 'exitingMaintenance' });
        }),
    }),

    findReturning: step({
      system: 'record',
      async do({ hostId }: HostRef): Promise<Left[]> {
        return (await leftFor(pool, { hostId })).map(({ id, type }) => ({ id, by: type }));
      },
    }),

    forgetMaintenance: step({
      system: 'record',
      do: ({ hostId }: HostRef, context) =>
        asHolder(database, context, async (tx) => {
          await noteReason(tx, { hostId, operationId: context.operationId, reason: null });
        }),
    }),
  };
};
