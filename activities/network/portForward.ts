import {
  addressBehind,
  isLeading,
  type LeadingForward,
  type PortForwardRecord,
  portForwardOf,
  type Target,
  writeAllowed,
  writeForward,
} from '../../database/floatingIps.ts';
import { refuse } from '../failure.ts';
import { asHolder } from '../holder.ts';
import { type StepContext, step } from '../step.ts';
import type { World } from '../world.ts';
import { addressSetName } from './addressGroup.ts';
import { exchange, map, type OvsdbOperation, type OvsdbRow, present, rowTags, set, taggedWith } from './northbound.ts';
import { reachable } from './reachable.ts';
import { routerIsThere } from './router.ts';
import { uplinkPortName } from './vpc.ts';

export const forwardName = (portForwardId: string): string => `forward-${portForwardId}`;

/** The columns of the balancer that its record decides: one target for each port. */
export function balancerRow({
  id,
  protocol,
  publicAddress,
  address,
  publicPorts,
  targetPorts,
}: LeadingForward): OvsdbRow {
  const { from, to = from } = publicPorts;
  const ports = Array.from({ length: to - from + 1 }, (_, index) => index);
  return {
    name: forwardName(id),
    protocol,
    vips: map(
      Object.fromEntries(
        ports.map((index) => [`${publicAddress}:${from + index}`, `${address}:${targetPorts.from + index}`]),
      ),
    ),
  };
}

/**
 * What keeps others out, on the way from the wire to the router: behind it the public address is no longer in the packet. Null where anybody may
 * come.
 */
export function guardRow(forward: PortForwardRecord): OvsdbRow | null {
  const { allowedCidrs, addressGroupId, uplinkId, publicAddress, protocol, publicPorts } = forward;
  if (!uplinkId || (allowedCidrs.length === 0 && addressGroupId === null)) return null;
  const { from, to = from } = publicPorts;
  const allowed = addressGroupId ? `$${addressSetName(addressGroupId, 4)}` : `{${allowedCidrs.join(', ')}}`;
  return {
    direction: 'to-lport',
    priority: 1000,
    match:
      `outport == "${uplinkPortName(uplinkId)}" && ip4.dst == ${publicAddress} && ${protocol} && ` +
      `${protocol}.dst >= ${from} && ${protocol}.dst <= ${to} && !(ip4.src == ${allowed})`,
    action: 'drop',
  };
}

/** Operations after which it leads where its record says. `prefix` tells it from others of the same transaction. */
export async function leadOperations(world: World, forward: LeadingForward, prefix = ''): Promise<OvsdbOperation[]> {
  const where = taggedWith('portForward', forward.id);
  const external_ids = rowTags('portForward', forward.id);
  const table = 'Load_Balancer';
  const [balancers, guards] = await world.northbound.transact(`look for port forward ${forward.id}`, [
    { op: 'select', table, where, columns: ['_uuid'] },
    { op: 'select', table: 'ACL', where, columns: ['_uuid'] },
  ]);
  const known = balancers?.rows?.[0]?._uuid;
  const old = (guards?.rows ?? []).map(({ _uuid }) => _uuid);
  const guard = guardRow(forward);
  const network = taggedWith('network', forward.networkId);
  const [balancerName, guardName] = [`${prefix}balancer`, `${prefix}guard`];
  return [
    routerIsThere(forward.vpcId),
    present('Logical_Switch', network, `OVN has no switch of network ${forward.networkId}`),
    known
      ? { op: 'update', table, where, row: balancerRow(forward) }
      : { op: 'insert', table, 'uuid-name': balancerName, row: { ...balancerRow(forward), external_ids } },
    ...(guard
      ? [{ op: 'insert' as const, table: 'ACL', 'uuid-name': guardName, row: { ...guard, external_ids } }]
      : []),
    // Nobody comes who may not, not for a moment: what keeps them out is there with the balancer.
    ...(guard || old.length > 0
      ? [
          {
            op: 'mutate' as const,
            table: 'Logical_Switch',
            where: network,
            mutations: exchange('acls', old, guard ? [['named-uuid', guardName]] : []),
          },
        ]
      : []),
    {
      op: 'mutate',
      table: 'Logical_Router',
      where: taggedWith('vpc', forward.vpcId),
      mutations: [['load_balancer', 'insert', set([known ?? ['named-uuid', balancerName]])]],
    },
  ];
}

/** Operations after which nothing of it is there. */
export async function removalOperations(
  world: World,
  forward: Pick<PortForwardRecord, 'id' | 'networkId'>,
): Promise<OvsdbOperation[]> {
  const where = taggedWith('portForward', forward.id);
  const [guards] = await world.northbound.transact(`look for port forward ${forward.id}`, [
    { op: 'select', table: 'ACL', where, columns: ['_uuid'] },
  ]);
  const old = (guards?.rows ?? []).map(({ _uuid }) => _uuid);
  return [
    { op: 'delete', table: 'Load_Balancer', where },
    ...(old.length > 0
      ? [
          {
            op: 'mutate',
            table: 'Logical_Switch',
            where: taggedWith('network', forward.networkId),
            mutations: [['acls', 'delete', set(old)]],
          } satisfies OvsdbOperation,
        ]
      : []),
  ];
}

async function write(world: World, forward: PortForwardRecord): Promise<void> {
  if (isLeading(forward))
    await world.northbound.transact(`write port forward ${forward.id}`, await leadOperations(world, forward));
}

async function remove(world: World, forward: PortForwardRecord): Promise<void> {
  await world.northbound.transact(`remove port forward ${forward.id}`, await removalOperations(world, forward));
}

interface PortForwardRef {
  portForwardId: string;
}

export const portForwards = (world: World) => {
  async function find(portForwardId: string): Promise<PortForwardRecord> {
    const [row] = await portForwardOf(world.database.connections, { portForwardId });
    if (!row) throw refuse('NOT_FOUND', `port forward ${portForwardId} is gone`);
    return row;
  }

  const record = (portForwardId: string, target: Target | null, context: StepContext): Promise<unknown> =>
    asHolder(world.database, context, (tx) =>
      writeForward(tx, {
        portForwardId,
        networkInterfaceId: target?.networkInterfaceId ?? null,
        address: target?.fixedAddress ?? null,
        vpcId: target?.vpcId ?? null,
      }),
    );

  return {
    /** Where it is to lead. */
    plan: step({
      system: 'record',
      async do({
        portForwardId,
        networkInterfaceId,
      }: PortForwardRef & { networkInterfaceId: string }): Promise<{ target: Target }> {
        const { networkId } = await find(portForwardId);
        return { target: await reachable(world.database.connections, { networkInterfaceId, networkId }) };
      },
    }),

    record: step({
      system: 'record',
      async do({ portForwardId, target }: PortForwardRef & { target: Target }, context) {
        await record(portForwardId, target, context);
      },
      undoText: 'nowhere',
      async undo({ portForwardId }, context) {
        await record(portForwardId, null, context);
      },
    }),

    /** A balancer with one target, and what keeps out whoever may not come. */
    make: step({
      system: 'ovn',
      async do({ portForwardId }: PortForwardRef) {
        const forward = await find(portForwardId);
        const [behind] = await addressBehind(world.database.connections, { portForwardId });
        // Between the request and its turn the interface may have been given another one.
        if ((behind?.address ?? null) !== forward.address)
          throw refuse(
            'PRECONDITION_FAILED',
            `the interface of port forward ${portForwardId} has another address by now`,
          );
        await write(world, forward);
      },
      undoText: 'delete balancer',
      undo: async ({ portForwardId }) => remove(world, await find(portForwardId)),
    }),

    replaceAllowed: step({
      system: 'ovn',
      do: async ({ portForwardId, allowedCidrs }: PortForwardRef & { allowedCidrs: string[] }) =>
        write(world, { ...(await find(portForwardId)), allowedCidrs }),
      undoText: 'who could come before',
      undo: async ({ portForwardId }) => write(world, await find(portForwardId)),
    }),

    recordAllowed: step({
      system: 'record',
      async do({ portForwardId, allowedCidrs }: PortForwardRef & { allowedCidrs: string[] }, context) {
        await asHolder(world.database, context, (tx) =>
          writeAllowed(tx, { portForwardId, allowedCidrs: JSON.stringify(allowedCidrs) }),
        );
      },
    }),

    remove: step({
      system: 'ovn',
      do: async ({ portForwardId }: PortForwardRef) => remove(world, await find(portForwardId)),
    }),
  };
};
