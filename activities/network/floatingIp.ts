import {
  type FloatingIpRecord,
  floatingIpOf,
  portUserOf,
  type Target,
  writeTarget,
} from '../../database/floatingIps.ts';
import { refuse } from '../failure.ts';
import { asHolder } from '../holder.ts';
import { type StepContext, step } from '../step.ts';
import type { World } from '../world.ts';
import { reachable } from './reachable.ts';
import { type AtRouter, operationsAt, removalAt, removeAt, routerIsThere } from './router.ts';

/**
 * What a floating IP comes to at the router of its target. It is translated where the VPC's gateway is, not on the host of the guest: answers of a
 * balancer's targets would else leave from there under that address.
 */
export const addressAt = ({ id, address }: Pick<FloatingIpRecord, 'id' | 'address'>, target: Target): AtRouter => ({
  vpcId: target.vpcId,
  kind: 'floatingIp',
  id,
  rows: { nat: [{ type: 'dnat_and_snat', external_ip: address, logical_ip: target.fixedAddress }] },
});

/** What its record says that it leads to. */
export const targetOf = ({ networkInterfaceId, fixedAddress, vpcId }: FloatingIpRecord): Target | null =>
  networkInterfaceId && fixedAddress && vpcId ? { networkInterfaceId, fixedAddress, vpcId } : null;

interface FloatingIpRef {
  floatingIpId: string;
}
interface Change extends FloatingIpRef {
  before: Target | null;
  after: Target | null;
}

export const floatingIps = (world: World) => {
  const { database } = world;
  const { connections } = database;

  async function find(floatingIpId: string): Promise<FloatingIpRecord> {
    const [row] = await floatingIpOf(connections, { floatingIpId });
    if (!row) throw refuse('NOT_FOUND', `floating IP ${floatingIpId} is gone`);
    return row;
  }
  const record = (floatingIpId: string, target: Target | null, context: StepContext): Promise<unknown> =>
    asHolder(database, context, (tx) =>
      writeTarget(tx, {
        floatingIpId,
        networkInterfaceId: target?.networkInterfaceId ?? null,
        fixedAddress: target?.fixedAddress ?? null,
        vpcId: target?.vpcId ?? null,
      }),
    );
  /** In one transaction, so that there is no moment at which it leads to both, or nowhere. */
  async function lead(floatingIpId: string, from: Target | null, to: Target | null): Promise<void> {
    const row = await find(floatingIpId);
    const leaves = from && from.vpcId !== to?.vpcId ? await removalAt(world, addressAt(row, from)) : [];
    const comes = to ? [routerIsThere(to.vpcId), ...(await operationsAt(world, addressAt(row, to)))] : [];
    if (leaves.length + comes.length > 0)
      await world.northbound.transact(`lead floating IP ${floatingIpId}`, [...comes, ...leaves]);
  }

  return {
    /** What it leads to, and what it is to lead to; null: nowhere. */
    plan: step({
      system: 'record',
      async do({
        floatingIpId,
        networkInterfaceId = null,
      }: FloatingIpRef & { networkInterfaceId?: string | null }): Promise<{
        before: Target | null;
        after: Target | null;
      }> {
        const row = await find(floatingIpId);
        const before = targetOf(row);
        if (networkInterfaceId === null) return { before, after: null };
        const [user] = await portUserOf(connections, { floatingIpId });
        if (user)
          throw refuse('HAS_DEPENDENTS', `${user.kind} ${user.id} has ports of floating IP ${floatingIpId}`, {
            blockers: [user],
          });
        return { before, after: await reachable(connections, { networkInterfaceId, networkId: row.networkId }) };
      },
    }),

    /** The database sees to it that no two lead to one interface. */
    record: step({
      system: 'record',
      async do({ floatingIpId, after }: Change, context) {
        await record(floatingIpId, after, context);
      },
      undoText: 'what it led to',
      async undo({ floatingIpId, before }, context) {
        await record(floatingIpId, before, context);
      },
    }),

    write: step({
      system: 'ovn',
      do: ({ floatingIpId, before, after }: Change) => lead(floatingIpId, before, after),
      undoText: 'lead to what it led to',
      undo: ({ floatingIpId, before, after }) => lead(floatingIpId, after, before),
    }),

    /** As its record says. */
    rewrite: step({
      system: 'ovn',
      async do({ floatingIpId }: FloatingIpRef) {
        const target = targetOf(await find(floatingIpId));
        if (target) await lead(floatingIpId, target, target);
      },
    }),

    remove: step({
      system: 'ovn',
      async do({ floatingIpId }: FloatingIpRef) {
        const row = await find(floatingIpId);
        const target = targetOf(row);
        if (target) await removeAt(world, addressAt(row, target));
      },
    }),
  };
};
