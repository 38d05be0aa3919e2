import type { Transaction } from '../../database/database.ts';
import { from, isAmong, statement, type Values } from '../../database/statement.ts';
import { userOfWire } from '../../database/wires.ts';
import { servingStates } from '../../model/platform/host.ts';
import { refuse } from '../failure.ts';
import { asHolder } from '../holder.ts';
import { type StepContext, step } from '../step.ts';
import type { World } from '../world.ts';

/** The name of a wire in OVN, which hosts know by it. */
export const wireName = (physicalNetworkId: string): string => `physical-${physicalNetworkId}`;

const connectedHosts = statement((p: Values<{ clusterIds: string[] }>) =>
  from
    .selectFrom('host')
    .select('id')
    .where((eb) => isAmong(eb.ref('clusterId'), p.clusterIds))
    .where('connection', '=', 'connected')
    .where('state', 'in', servingStates)
    .where('deletedAt', 'is', null)
    .orderBy('id'),
);

type Held = Values<{ id: string; operationId: string }>;

const lockedClusters = statement((p: Held) =>
  from
    .selectFrom('physicalNetwork')
    .select('clusterIds')
    .where('id', '=', p.id)
    .where('currentOperationId', '=', p.operationId)
    .forUpdate(),
);

const writeClusters = statement((p: Values<{ id: string; clusterIds: string[] }>) =>
  from.updateTable('physicalNetwork').set({ clusterIds: p.clusterIds }).where('id', '=', p.id),
);

interface PhysicalNetworkRef {
  physicalNetworkId: string;
}
interface OnHost extends PhysicalNetworkRef {
  hostId: string;
}
interface OfCluster extends PhysicalNetworkRef {
  clusterId: string;
}

export const physicalNetworks = (world: World) => {
  const { prisma, connections } = world.database;
  const find = (id: string) => prisma.physicalNetwork.findUniqueOrThrow({ where: { id } });
  const map = async ({ physicalNetworkId, hostId }: OnHost): Promise<void> => {
    const { bridge } = await find(physicalNetworkId);
    if (bridge) await (await world.host(hostId)).call('switch.ensureMapping', { physicalNetworkId, bridge });
  };
  const unmap = async ({ physicalNetworkId, hostId }: OnHost): Promise<void> => {
    await (await world.host(hostId)).call('switch.ensureMappingAbsent', { physicalNetworkId });
  };
  /** Its clusters become others, unless the operation holds it no longer. `proof` is asked under the lock. */
  const change = (
    id: string,
    next: (clusterIds: string[]) => string[],
    context: StepContext,
    proof: (tx: Transaction) => Promise<void> = async () => {},
  ): Promise<void> =>
    asHolder(world.database, context, async (tx) => {
      const [wire] = await lockedClusters(tx, { id, operationId: context.operationId });
      if (!wire) throw refuse('INVALID_STATE', `physical network ${id} is not held by this operation any more`);
      await proof(tx);
      await writeClusters(tx, { id, clusterIds: next(wire.clusterIds) });
    });
  const withOne = (clusterId: string) => (clusterIds: string[]) => [...new Set([...clusterIds, clusterId])];
  const without = (clusterId: string) => (clusterIds: string[]) => clusterIds.filter((id) => id !== clusterId);

  return {
    /** The connected hosts of its clusters, or of one; none of a wire that needs no bridge. Hosts that come later are led to it as they connect. */
    locate: step({
      system: 'record',
      async do({ physicalNetworkId, clusterId }: PhysicalNetworkRef & { clusterId?: string }): Promise<{
        hostIds: string[];
      }> {
        const { bridge, clusterIds } = await find(physicalNetworkId);
        if (!bridge) return { hostIds: [] };
        const hosts = await connectedHosts(connections, { clusterIds: clusterId ? [clusterId] : clusterIds });
        return { hostIds: hosts.map(({ id }) => id) };
      },
    }),

    /** Whether the host has the bridge: asked of all hosts before the first one is changed. */
    checkHost: step({
      system: 'ovs',
      async do({ physicalNetworkId, hostId }: OnHost) {
        const { bridge } = await find(physicalNetworkId);
        const { bridges } = await (await world.host(hostId)).call('switch.bridges', { names: bridge ? [bridge] : [] });
        if (bridge && !bridges.includes(bridge))
          throw refuse('PRECONDITION_FAILED', `host ${hostId} has no bridge ${bridge}`, { hostId });
      },
    }),

    /** From here on the host's OVN leads what is on the wire through the bridge. */
    mapHost: step({ system: 'ovs', do: map, undoText: 'forget the bridge', undo: unmap }),

    /** The opposite. */
    unmapHost: step({ system: 'ovs', do: unmap, undoText: 'map again', undo: map }),

    addCluster: step({
      system: 'record',
      async do({ physicalNetworkId, clusterId }: OfCluster, context) {
        await change(physicalNetworkId, withOne(clusterId), context);
      },
      undoText: 'clusters before',
      async undo({ physicalNetworkId, clusterId }, context) {
        await change(physicalNetworkId, without(clusterId), context);
      },
    }),

    /** Whatever is placed there later finds the cluster gone; whatever was placed before is found here. */
    dropCluster: step({
      system: 'record',
      async do({ physicalNetworkId, clusterId }: OfCluster, context) {
        await change(physicalNetworkId, without(clusterId), context, async (tx) => {
          const [user] = await userOfWire(tx, { physicalNetworkId, clusterId });
          if (user)
            throw refuse('HAS_DEPENDENTS', `${user.kind} ${user.id} is on physical network ${physicalNetworkId}`, {
              blockers: [user],
            });
        });
      },
      undoText: 'clusters before',
      async undo({ physicalNetworkId, clusterId }, context) {
        await change(physicalNetworkId, withOne(clusterId), context);
      },
    }),
  };
};
