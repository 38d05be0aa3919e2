import { setTimeout } from 'node:timers/promises';
import { type Port, portsOfInstance } from '../../database/networks.ts';
import { refuse, tryAgain } from '../failure.ts';
import { mustAnswer } from '../silence.ts';
import { step } from '../step.ts';
import type { World } from '../world.ts';
import { networkGroup } from './network.ts';
import { type Condition, map, members, type OvsdbOperation, present, rowTags, set, taggedWith } from './northbound.ts';
import { securityGroupName } from './securityGroup.ts';

interface InstanceRef {
  instanceId: string;
}
interface OnHost extends InstanceRef {
  hostId: string;
}

const living = (world: World, instanceId: string): Promise<Port[]> =>
  portsOfInstance(world.database.connections, { instanceId });

const portOf = (id: string): [string, string, unknown][] => [['name', '==', id]];

const again = 'the action repair of its network writes it anew';

/**
 * The chassis a port may be bound to; with two, the second takes over at the guest's first RARP after its switch-over. `must`: a port that
 * is not there is an error, and not merely bound to nothing.
 */
async function request(
  world: World,
  instanceId: string,
  chassis: string[],
  { must }: { must: boolean },
): Promise<void> {
  const ports = await living(world, instanceId);
  if (ports.length === 0) return;
  const drop = (column: string): [string, string, unknown] => ['options', 'delete', set([column])];
  const options: Record<string, string> = chassis.length > 0 ? { 'requested-chassis': chassis.join(',') } : {};
  if (chassis.length > 1) options['activation-strategy'] = 'rarp';
  await world.northbound.transact(
    `bind ports of ${instanceId} to ${chassis.join(', ') || 'no host'}`,
    ports.flatMap((port): OvsdbOperation[] => [
      ...(must
        ? [present('Logical_Switch_Port', portOf(port.id), `OVN has no switch port of interface ${port.id}; ${again}`)]
        : []),
      {
        op: 'mutate',
        table: 'Logical_Switch_Port',
        where: portOf(port.id),
        mutations: [
          drop('requested-chassis'),
          drop('activation-strategy'),
          ...(chassis.length > 0 ? ([['options', 'insert', map(options)]] as [string, string, unknown][]) : []),
        ],
      },
    ]),
  );
}

/** What a port may send with, and is sent. */
export function addressesOf(port: Pick<Port, 'mac' | 'address' | 'portSecurity'>): {
  addresses: unknown;
  port_security: unknown;
} {
  const addresses = `${port.mac} ${port.address}`;
  return {
    // A guest that may send with other addresses is sent what goes to addresses that nobody else has.
    addresses: port.portSecurity ? addresses : set([addresses, 'unknown']),
    port_security: port.portSecurity ? addresses : set([]),
  };
}

/** Writes the ports of an instance, whether they are there or not: a port is in its switch and in all its groups, or it is not made. */
async function plug(world: World, instanceId: string, chassis: string | null): Promise<void> {
  const ports = await living(world, instanceId);
  if (ports.length === 0) return;
  const columns = ['_uuid'];
  const lookups = await world.northbound.transact(`look for ports of ${instanceId}`, [
    ...ports.map(
      (port): OvsdbOperation => ({ op: 'select', table: 'Logical_Switch_Port', where: portOf(port.id), columns }),
    ),
    ...ports.map(
      (port): OvsdbOperation => ({
        op: 'select',
        table: 'DHCP_Options',
        where: taggedWith('subnet', port.subnetId ?? ''),
        columns,
      }),
    ),
  ]);
  const operations = ports.flatMap((port, index): OvsdbOperation[] => {
    const name = `port${index}`;
    const known = lookups[index]?.rows?.[0]?._uuid;
    const dhcp = lookups[ports.length + index]?.rows?.[0]?._uuid;
    if (port.dhcp && !dhcp)
      throw refuse('PRECONDITION_FAILED', `OVN has no DHCP options of subnet ${port.subnetId}; ${again}`);
    const row = {
      ...addressesOf(port),
      dhcpv4_options: port.dhcp && dhcp ? dhcp : set([]),
      ...(chassis ? { options: map({ 'requested-chassis': chassis }) } : {}),
      external_ids: rowTags('networkInterface', port.id),
    };
    const join = (table: string, where: Condition[], what: string): OvsdbOperation[] => [
      present(table, where, `OVN has no ${what}; ${again}`),
      { op: 'mutate', table, where, mutations: [['ports', 'insert', set([known ?? ['named-uuid', name]])]] },
    ];
    const network = port.networkId ?? '';
    return [
      known
        ? { op: 'update', table: 'Logical_Switch_Port', where: portOf(port.id), row }
        : { op: 'insert', table: 'Logical_Switch_Port', 'uuid-name': name, row: { name: port.id, ...row } },
      ...join('Logical_Switch', taggedWith('network', network), `switch of network ${network}`),
      ...join('Port_Group', [['name', '==', networkGroup(network)]], `port group of network ${network}`),
      ...port.securityGroupIds.flatMap((id) =>
        join('Port_Group', [['name', '==', securityGroupName(id)]], `port group of security group ${id}`),
      ),
    ];
  });
  await world.northbound.transact(`plug ports of ${instanceId}`, operations);
}

/** Ports leave their switch and groups; OVSDB collects what nobody refers to. */
async function unplug(world: World, instanceId: string): Promise<void> {
  const ports = await living(world, instanceId);
  const found = await world.northbound.transact(
    `look for ports of ${instanceId}`,
    ports.map(
      (port): OvsdbOperation => ({
        op: 'select',
        table: 'Logical_Switch_Port',
        where: portOf(port.id),
        columns: ['_uuid'],
      }),
    ),
  );
  const operations = ports.flatMap((port, index): OvsdbOperation[] => {
    const uuid = found[index]?.rows?.[0]?._uuid;
    if (!uuid) return [];
    const leave = (table: string, where: [string, string, unknown][]): OvsdbOperation => ({
      op: 'mutate',
      table,
      where,
      mutations: [['ports', 'delete', set([uuid])]],
    });
    return [
      leave('Logical_Switch', taggedWith('network', port.networkId ?? '')),
      leave('Port_Group', [['name', '==', networkGroup(port.networkId ?? '')]]),
      ...port.securityGroupIds.map((id) => leave('Port_Group', [['name', '==', securityGroupName(id)]])),
    ];
  });
  if (operations.length > 0) await world.northbound.transact(`unplug ports of ${instanceId}`, operations);
}

export const networkInterfaces = (world: World) => ({
  /** Switch ports with addresses, port security, DHCP and security groups, all in one transaction; bound to a host if one is named. */
  plug: step({
    system: 'ovn',
    do: ({ instanceId, hostId }: InstanceRef & { hostId?: string }) => plug(world, instanceId, hostId ?? null),
    undoText: 'delete ports',
    undo: ({ instanceId }) => unplug(world, instanceId),
  }),

  /** The opposite of plug, for an instance that is destroyed; its addresses stay reserved. */
  unplug: step({
    system: 'ovn',
    do: ({ instanceId }: InstanceRef & { hostId?: string | null }) => unplug(world, instanceId),
    undoText: 'create ports',
    undo: ({ instanceId, hostId }) => plug(world, instanceId, hostId ?? null),
  }),

  bind: step({
    system: 'ovn',
    do: ({ instanceId, hostId }: OnHost) => request(world, instanceId, [hostId], { must: true }),
    undoText: 'unbind',
    undo: ({ instanceId }) => request(world, instanceId, [], { must: false }),
  }),

  unbind: step({ system: 'ovn', do: ({ instanceId }: InstanceRef) => request(world, instanceId, [], { must: false }) }),

  /** Bounded: a port that does not come up in time is an unreachable guest, and no success. */
  awaitUp: step({
    system: 'ovn',
    async do({ instanceId, hostId }: OnHost) {
      const ports = await living(world, instanceId);
      if (ports.length === 0) return;
      const lookups = ports.map(
        (port): OvsdbOperation => ({
          op: 'select',
          table: 'Logical_Switch_Port',
          where: portOf(port.id),
          columns: ['up'],
        }),
      );
      for (const until = Date.now() + 20_000; ; ) {
        const results = await world.northbound.transact(`are the ports of ${instanceId} up`, lookups);
        const down = ports.find((_, index) => members(results[index]?.rows?.[0]?.up)[0] !== true);
        if (!down) return;
        await mustAnswer(world.database.connections, { id: instanceId, hostId });
        if (Date.now() > until) throw tryAgain('TIMEOUT', `port ${down.id} did not come up on its host within 20 s`);
        await setTimeout(100);
      }
    },
  }),

  bindToBoth: step({
    system: 'ovn',
    do: ({ instanceId, sourceHostId, targetHostId }: InstanceRef & { sourceHostId: string; targetHostId: string }) =>
      request(world, instanceId, [sourceHostId, targetHostId], { must: true }),
    /** Where the guest is now: its source, unless that is dead and the guest had left it. */
    undoText: 'source only',
    async undo({ instanceId, sourceHostId }) {
      const { hostId } = await world.database.prisma.instance.findUniqueOrThrow({ where: { id: instanceId } });
      await request(world, instanceId, [hostId ?? sourceHostId], { must: false });
    },
  }),

  /** Only once the port is up at the target: clearing the second chassis earlier can lose the guest's announcement. */
  bindToTarget: step({
    system: 'ovn',
    async do({ instanceId, targetHostId }: InstanceRef & { targetHostId: string }) {
      await request(world, instanceId, [targetHostId], { must: true });
    },
  }),
});
