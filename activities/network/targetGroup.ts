import { freeAddress } from '../../database/addresses.ts';
import {
  type GroupRecord,
  keepProbes,
  listenersTo,
  probesOf,
  type Spread,
  takeProbes,
  targetGroupOf,
  writeSpread,
} from '../../database/loadBalancers.ts';
import { type HealthCheck, healthCheckDefaults, type Target } from '../../model/network/targetGroup.ts';
import { Problem } from '../../runtime/problem.ts';
import { refuse } from '../failure.ts';
import { asHolder } from '../holder.ts';
import { type StepContext, step } from '../step.ts';
import type { World } from '../world.ts';
import { interfacesOf, writeRecorded } from './loadBalancer.ts';

interface TargetGroupRef {
  targetGroupId: string;
}
interface Change extends TargetGroupRef {
  before: Spread;
  after: Spread;
}
interface Wanted {
  targets?: Target[] | null;
  algorithm?: Spread['algorithm'] | null;
  healthCheck?: Partial<HealthCheck> | null;
}

export const targetGroups = (world: World) => {
  const { database } = world;
  const { connections } = database;

  async function find(targetGroupId: string): Promise<GroupRecord> {
    const [group] = await targetGroupOf(connections, { targetGroupId });
    if (!group) throw refuse('NOT_FOUND', `target group ${targetGroupId} is gone`);
    return group;
  }
  const record = (targetGroupId: string, spread: Spread, context: StepContext, keep: boolean): Promise<void> =>
    asHolder(database, context, async (tx) => {
      const networkInterfaceIds = interfacesOf(spread);
      await writeSpread(tx, {
        targetGroupId,
        targets: JSON.stringify(spread.targets),
        networkInterfaceIds,
        algorithm: spread.algorithm,
        healthCheck: JSON.stringify(spread.healthCheck),
      });
      if (keep) await keepProbes(tx, { targetGroupId, networkInterfaceIds });
      else await takeProbes(tx, { targetGroupId, networkInterfaceIds });
    }).catch((error: unknown) => {
      if (error instanceof Problem) throw refuse(error.code, error.message);
      throw error;
    });
  async function write(targetGroupId: string, spread: Spread): Promise<void> {
    const asked = await probesOf(connections, { targetGroupId, networkInterfaceIds: interfacesOf(spread) });
    const probes = Object.fromEntries(asked.map(({ id, address }) => [id, address]));
    for (const { id } of await listenersTo(connections, { targetGroupId }))
      await writeRecorded(world, id, { ...spread, probes });
  }

  return {
    plan: step({
      system: 'record',
      async do({ targetGroupId, targets, algorithm, healthCheck }: TargetGroupRef & Wanted): Promise<{
        before: Spread;
        after: Spread;
      }> {
        const group = await find(targetGroupId);
        const before = { targets: group.targets, algorithm: group.algorithm, healthCheck: group.healthCheck };
        return {
          before,
          after: {
            targets: targets ?? before.targets,
            algorithm: algorithm ?? before.algorithm,
            healthCheck: healthCheck ? { ...healthCheckDefaults, ...healthCheck } : before.healthCheck,
          },
        };
      },
    }),

    /** With an address in each subnet of the new targets, from which they are asked. Those of the old ones stay until nothing asks from them any more. */
    record: step({
      system: 'record',
      do: ({ targetGroupId, after }: Change, context) => record(targetGroupId, after, context, false),
      undoText: 'as before',
      undo: ({ targetGroupId, before }, context) => record(targetGroupId, before, context, true),
    }),

    /** Each of its listeners in one transaction. */
    write: step({
      system: 'ovn',
      do: ({ targetGroupId, after }: Change) => write(targetGroupId, after),
      undoText: 'targets before',
      undo: ({ targetGroupId, before }) => write(targetGroupId, before),
    }),

    freeProbes: step({
      system: 'record',
      async do({ targetGroupId }: TargetGroupRef, context) {
        const group = await find(targetGroupId);
        await asHolder(database, context, (tx) =>
          keepProbes(tx, { targetGroupId, networkInterfaceIds: interfacesOf(group) }),
        );
      },
    }),

    release: step({
      system: 'record',
      async do({ targetGroupId }: TargetGroupRef, context) {
        await asHolder(database, context, (tx) => freeAddress(tx, targetGroupId));
      },
    }),

    /** A listener that was on its way to it when the deletion was accepted may send to it by now. None does later. */
    proveUnused: step({
      system: 'record',
      async do({ targetGroupId }: TargetGroupRef) {
        const [user] = await listenersTo(connections, { targetGroupId });
        if (user)
          throw refuse('HAS_DEPENDENTS', `listener ${user.id} sends to target group ${targetGroupId} by now`, {
            blockers: [{ kind: 'listener', id: user.id }],
          });
      },
    }),
  };
};
