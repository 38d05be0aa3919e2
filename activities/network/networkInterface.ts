import { setTimeout } from 'node:timers/promises';
import { type Port, policiesOver, portById, portsOfInstance } from '../../database/networks.ts';
import type { Pair, Qos } from '../../model/network/networkInterface.ts';
import { refuse, tryAgain } from '../failure.ts';
import { mustAnswer } from '../silence.ts';
import { step } from '../step.ts';
import type { World } from '../world.ts';
import { firewallGroupName } from './firewallWrites.ts';
import { followTargets } from './loadBalancer.ts';
import { networkGroup } from './network.ts';
import {
  type Condition,
  exchange,
  map,
  members,
  type OvsdbOperation,
  type OvsdbRow,
  present,
  rowTags,
  set,
  taggedWith,
} from './northbound.ts';
import { securityGroupName } from './securityGroup.ts';

interface InstanceRef {
  instanceId: string;
}
interface OnHost extends InstanceRef {
  hostId: string;
}

interface InterfaceRef {
  networkInterfaceId: string;
}

const living = (world: World, instanceId: string): Promise<Port[]> =>
  portsOfInstance(world.database.connections, { instanceId });

async function portNamed(world: World, networkInterfaceId: string): Promise<Port[]> {
  const ports = await portById(world.database.connections, { id: networkInterfaceId });
  if (ports.length === 0) throw refuse('NOT_FOUND', `network interface ${networkInterfaceId} is gone`);
  return ports;
}

/** What an interface is about to be told, in place of what its record says. */
export interface PortChange {
  address?: string;
  address6?: string | null;
  secondaryAddresses?: string[];
  securityGroupIds?: string[];
  portSecurity?: boolean | null;
  allowedPairs?: Pair[];
  linkUp?: boolean;
  qos?: Qos | null;
  /** What the undo does not find in the record any more. */
  before?: { dnsName: string | null };
}

const changed = (port: Port, { portSecurity, before: _, ...change }: PortChange): Port => ({
  ...port,
  ...change,
  ...(portSecurity === undefined ? {} : { portSecurity: portSecurity ?? port.networkPortSecurity }),
});

const portOf = (id: string): [string, string, unknown][] => [['name', '==', id]];

const again = 'the action repair of its network writes it anew';

/**
 * The chassis a port may be bound to; with two, the second takes over at the guest's first RARP after its switch-over. `must`: a port that
 * is not there is an error, and not merely bound to nothing.
 */
async function request(
  world: World,
  of: string,
  ports: Port[],
  chassis: string[],
  { must }: { must: boolean },
): Promise<void> {
  if (ports.length === 0) return;
  const drop = (column: string): [string, string, unknown] => ['options', 'delete', set([column])];
  const options: Record<string, string> = chassis.length > 0 ? { 'requested-chassis': chassis.join(',') } : {};
  if (chassis.length > 1) options['activation-strategy'] = 'rarp';
  await world.northbound.transact(
    `bind ports of ${of} to ${chassis.join(', ') || 'no host'}`,
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

const requestOfInstance = async (
  world: World,
  instanceId: string,
  chassis: string[],
  how: { must: boolean },
): Promise<void> => request(world, instanceId, await living(world, instanceId), chassis, how);

const requestOfOne = async (world: World, id: string, chassis: string[], how: { must: boolean }): Promise<void> =>
  request(world, id, await portById(world.database.connections, { id }), chassis, how);

/** What a port may send with, and is sent. */
export function addressesOf({
  mac,
  address,
  address6,
  secondaryAddresses,
  portSecurity,
  allowedPairs,
}: Pick<Port, 'mac' | 'address' | 'address6' | 'secondaryAddresses' | 'portSecurity' | 'allowedPairs'>): {
  addresses: unknown;
  port_security: unknown;
} {
  const own = [mac, address, ...secondaryAddresses, address6].filter((part) => part !== null).join(' ');
  const foreign = allowedPairs.filter((pair) => pair.mac !== undefined && pair.mac !== mac);
  const withOwnMac = allowedPairs.filter((pair) => !foreign.includes(pair)).map(({ cidr }) => cidr);
  // A guest that may send with other MAC addresses is sent what goes to addresses that nobody else has.
  return {
    addresses: portSecurity && foreign.length === 0 ? own : set([own, 'unknown']),
    port_security: portSecurity
      ? set([[own, ...withOwnMac].join(' '), ...foreign.map((pair) => `${pair.mac} ${pair.cidr}`)])
      : set([]),
  };
}

/** What limits a port, as rows of its switch: a meter on every host that it is on. OVN counts in kilobits, and lets a second's worth through at once. */
export function qosRows({ id, qos }: Pick<Port, 'id' | 'qos'>): OvsdbRow[] {
  const limit = (direction: string, match: string, bytesPerSec: number | undefined): OvsdbRow[] =>
    bytesPerSec === undefined
      ? []
      : [{ direction, priority: 1000, match, bandwidth: ['map', [['rate', Math.round((bytesPerSec * 8) / 1000)]]] }];
  return [
    ...limit('to-lport', `outport == "${id}"`, qos?.inBytesPerSec),
    ...limit('from-lport', `inport == "${id}"`, qos?.outBytesPerSec),
  ];
}

/** Exactly these limits are there of it, where `before` are. */
function limitOperations(port: Port, name: string, before: unknown[], wanted: OvsdbRow[]): OvsdbOperation[] {
  if (before.length + wanted.length === 0) return [];
  const names = wanted.map((_, index) => `${name}_limit${index}`);
  return [
    ...wanted.map(
      (row, index): OvsdbOperation => ({
        op: 'insert',
        table: 'QoS',
        'uuid-name': names[index] ?? '',
        row: { ...row, external_ids: rowTags('networkInterface', port.id) },
      }),
    ),
    {
      op: 'mutate',
      table: 'Logical_Switch',
      where: taggedWith('network', port.networkId ?? ''),
      mutations: exchange(
        'qos_rules',
        before,
        names.map((one) => ['named-uuid', one]),
      ),
    },
  ];
}

/** What guests are answered of it: by its name alone, and with the domain behind that. Null of one without a name. */
export function namesOf(
  port: Pick<Port, 'dnsName' | 'domain' | 'address' | 'address6'>,
): Record<string, string> | null {
  const { dnsName, domain, address, address6 } = port;
  if (dnsName === null) return null;
  const addresses = [address, address6].filter((one) => one !== null).join(' ');
  return { [dnsName]: addresses, ...(domain ? { [`${dnsName}.${domain.toLowerCase()}`]: addresses } : {}) };
}

/** A row of its own, to which the switches refer whose guests are answered. OVN refers weakly: it goes from them when it is deleted. */
function nameOperations(port: Port, name: string, known: unknown): OvsdbOperation[] {
  const records = namesOf(port);
  const table = 'DNS';
  const where = taggedWith('networkInterface', port.id);
  if (!records) return known ? [{ op: 'delete', table, where }] : [];
  const row = { records: map(records) };
  return [
    known
      ? { op: 'update', table, where, row }
      : {
          op: 'insert',
          table,
          'uuid-name': `${name}_name`,
          row: { ...row, external_ids: rowTags('networkInterface', port.id) },
        },
    ...port.namedOn.map(
      (networkId): OvsdbOperation => ({
        op: 'mutate',
        table: 'Logical_Switch',
        where: taggedWith('network', networkId),
        mutations: [['dns_records', 'insert', set([known ?? ['named-uuid', `${name}_name`]])]],
      }),
    ),
  ];
}

const lookForName = ({ id }: Port): OvsdbOperation => ({
  op: 'select',
  table: 'DNS',
  where: taggedWith('networkInterface', id),
  columns: ['_uuid'],
});

const lookForLimits = ({ id }: Port): OvsdbOperation => ({
  op: 'select',
  table: 'QoS',
  where: taggedWith('networkInterface', id),
  columns: ['_uuid'],
});

/** Of a link that is up nothing is said. */
export const enabledOf = ({ linkUp }: Pick<Port, 'linkUp'>): unknown => (linkUp ? set([]) : false);

/**
 * Writes ports, whether they are there or not: a port is in its switch and in all its groups, and in no other, or it is not made. Without a chassis it
 * stays bound as it is. A network comes to another firewall policy while ports are plugged into it: in the records first, and then all its ports in OVN. So
 * whoever has plugged one looks again.
 */
async function write(world: World, of: string, ports: Port[], chassis: string | null): Promise<void> {
  if (ports.length === 0) return;
  const columns = ['_uuid'];
  const lookups = await world.northbound.transact(`look for ports of ${of}`, [
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
    ...ports.map(
      (port): OvsdbOperation => ({
        op: 'select',
        table: 'DHCP_Options',
        where: taggedWith('subnet', port.subnet6Id ?? ''),
        columns,
      }),
    ),
    ...ports.map(lookForLimits),
    ...ports.map(lookForName),
  ]);
  const operations = ports.flatMap((port, index): OvsdbOperation[] => {
    const name = `port${index}`;
    const known = lookups[index]?.rows?.[0]?._uuid;
    const dhcp = lookups[ports.length + index]?.rows?.[0]?._uuid;
    const dhcp6 = lookups[2 * ports.length + index]?.rows?.[0]?._uuid;
    const limits = (lookups[3 * ports.length + index]?.rows ?? []).map(({ _uuid }) => _uuid);
    if (port.dhcp && !dhcp)
      throw refuse('PRECONDITION_FAILED', `OVN has no DHCP options of subnet ${port.subnetId}; ${again}`);
    if (port.dhcp6 && !dhcp6)
      throw refuse('PRECONDITION_FAILED', `OVN has no DHCP options of subnet ${port.subnet6Id}; ${again}`);
    const row = {
      ...addressesOf(port),
      dhcpv4_options: port.dhcp && dhcp ? dhcp : set([]),
      dhcpv6_options: port.dhcp6 && dhcp6 ? dhcp6 : set([]),
      enabled: enabledOf(port),
      ...(chassis ? { options: map({ 'requested-chassis': chassis }) } : {}),
      external_ids: rowTags('networkInterface', port.id),
    };
    const join = (table: string, where: Condition[], what: string): OvsdbOperation[] => [
      present(table, where, `OVN has no ${what}; ${again}`),
      { op: 'mutate', table, where, mutations: [['ports', 'insert', set([known ?? ['named-uuid', name]])]] },
    ];
    const network = port.networkId ?? '';
    const policy = port.firewallPolicyId;
    return [
      known
        ? { op: 'update', table: 'Logical_Switch_Port', where: portOf(port.id), row }
        : { op: 'insert', table: 'Logical_Switch_Port', 'uuid-name': name, row: { name: port.id, ...row } },
      ...(known ? [leaveAll(known)] : []),
      ...join('Logical_Switch', taggedWith('network', network), `switch of network ${network}`),
      ...limitOperations(port, name, limits, qosRows(port)),
      ...nameOperations(port, name, lookups[4 * ports.length + index]?.rows?.[0]?._uuid),
      ...join('Port_Group', [['name', '==', networkGroup(network)]], `port group of network ${network}`),
      ...port.securityGroupIds.flatMap((id) =>
        join('Port_Group', [['name', '==', securityGroupName(id)]], `port group of security group ${id}`),
      ),
      ...(policy
        ? [
            present(
              'Port_Group',
              [['name', '==', firewallGroupName(policy)]],
              `OVN has no port group of firewall policy ${policy}; its action repair writes it anew`,
            ),
            {
              op: 'mutate' as const,
              table: 'Port_Group',
              where: [['name', '==', firewallGroupName(policy)]] as Condition[],
              mutations: [['ports', 'insert', set([known ?? ['named-uuid', name]])]] as [string, string, unknown][],
            },
          ]
        : []),
    ];
  });
  await world.northbound.transact(`plug ports of ${of}`, operations);
  const ids = ports.map(({ id }) => id);
  await followTargets(world, ids);
  const now = new Map(
    (await policiesOver(world.database.connections, { ids })).map((one) => [one.id, one.firewallPolicyId]),
  );
  const moved = ports.flatMap((port) => {
    const firewallPolicyId = now.get(port.id);
    return firewallPolicyId === undefined || firewallPolicyId === port.firewallPolicyId
      ? []
      : [{ ...port, firewallPolicyId }];
  });
  await write(world, of, moved, chassis);
}

/** In the same transaction it joins those of its record again. */
const leaveAll = (port: unknown): OvsdbOperation => ({
  op: 'mutate',
  table: 'Port_Group',
  where: [['ports', 'includes', set([port])]],
  mutations: [['ports', 'delete', set([port])]],
});

const plug = async (world: World, instanceId: string, chassis: string | null): Promise<void> =>
  write(world, instanceId, await living(world, instanceId), chassis);

/** Ports leave their switch and groups; OVSDB collects what nobody refers to. */
async function remove(world: World, of: string, ports: Port[]): Promise<void> {
  const found = await world.northbound.transact(`look for ports of ${of}`, [
    ...ports.map(
      (port): OvsdbOperation => ({
        op: 'select',
        table: 'Logical_Switch_Port',
        where: portOf(port.id),
        columns: ['_uuid'],
      }),
    ),
    ...ports.map(lookForLimits),
  ]);
  const operations = ports.flatMap((port, index): OvsdbOperation[] => {
    const uuid = found[index]?.rows?.[0]?._uuid;
    const limits = (found[ports.length + index]?.rows ?? []).map(({ _uuid }) => _uuid);
    const unlimited = [
      ...limitOperations(port, `port${index}`, limits, []),
      ...(port.dnsName === null ? [] : nameOperations({ ...port, dnsName: null }, '', true)),
    ];
    if (!uuid) return unlimited;
    return [
      ...unlimited,
      {
        op: 'mutate',
        table: 'Logical_Switch',
        where: taggedWith('network', port.networkId ?? ''),
        mutations: [['ports', 'delete', set([uuid])]],
      },
      leaveAll(uuid),
    ];
  });
  if (operations.length > 0) await world.northbound.transact(`unplug ports of ${of}`, operations);
  await followTargets(
    world,
    ports.map(({ id }) => id),
  );
}

const unplug = async (world: World, instanceId: string): Promise<void> =>
  remove(world, instanceId, await living(world, instanceId));

/** Bounded: a port that does not come up in time is an unreachable guest, and no success. One whose link is down need not come up. */
async function awaitUp(world: World, { instanceId, hostId }: OnHost, all: Port[]): Promise<void> {
  const ports = all.filter(({ linkUp }) => linkUp);
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
    do: ({ instanceId, hostId }: OnHost) => requestOfInstance(world, instanceId, [hostId], { must: true }),
    undoText: 'unbind',
    undo: ({ instanceId }) => requestOfInstance(world, instanceId, [], { must: false }),
  }),

  unbind: step({
    system: 'ovn',
    do: ({ instanceId }: InstanceRef) => requestOfInstance(world, instanceId, [], { must: false }),
  }),

  awaitUp: step({
    system: 'ovn',
    do: async (on: OnHost) => awaitUp(world, on, await living(world, on.instanceId)),
  }),

  /** The port of one interface, attached or not. */
  makeOne: step({
    system: 'ovn',
    do: async ({ networkInterfaceId }: InterfaceRef) =>
      write(world, networkInterfaceId, await portNamed(world, networkInterfaceId), null),
    undoText: 'delete port',
    undo: async ({ networkInterfaceId }) =>
      remove(world, networkInterfaceId, await portById(world.database.connections, { id: networkInterfaceId })),
  }),

  removeOne: step({
    system: 'ovn',
    do: async ({ networkInterfaceId }: InterfaceRef) =>
      remove(world, networkInterfaceId, await portById(world.database.connections, { id: networkInterfaceId })),
  }),

  /** The port as it shall be, in one transaction: no packet meets half of that. */
  rewrite: step({
    system: 'ovn',
    async do({ networkInterfaceId, change }: InterfaceRef & { change: PortChange }) {
      const ports = await portNamed(world, networkInterfaceId);
      await write(
        world,
        networkInterfaceId,
        ports.map((port) => changed(port, change)),
        null,
      );
    },
    undoText: 'old port',
    undo: async ({ networkInterfaceId, change: { before } }) =>
      write(
        world,
        networkInterfaceId,
        (await portNamed(world, networkInterfaceId)).map((port) => ({ ...port, ...before })),
        null,
      ),
  }),

  bindOne: step({
    system: 'ovn',
    do: ({ networkInterfaceId, hostId }: InterfaceRef & { hostId: string }) =>
      requestOfOne(world, networkInterfaceId, [hostId], { must: true }),
    undoText: 'unbind',
    undo: ({ networkInterfaceId }) => requestOfOne(world, networkInterfaceId, [], { must: false }),
  }),

  unbindOne: step({
    system: 'ovn',
    do: ({ networkInterfaceId }: InterfaceRef & { hostId: string }) =>
      requestOfOne(world, networkInterfaceId, [], { must: false }),
    undoText: 'bind',
    undo: ({ networkInterfaceId, hostId }) => requestOfOne(world, networkInterfaceId, [hostId], { must: false }),
  }),

  awaitOne: step({
    system: 'ovn',
    do: async ({ networkInterfaceId, ...on }: InterfaceRef & OnHost) =>
      awaitUp(world, on, await portNamed(world, networkInterfaceId)),
  }),

  bindToBoth: step({
    system: 'ovn',
    do: ({ instanceId, sourceHostId, targetHostId }: InstanceRef & { sourceHostId: string; targetHostId: string }) =>
      requestOfInstance(world, instanceId, [sourceHostId, targetHostId], { must: true }),
    /** Where the guest is now: its source, unless that is dead and the guest had left it. */
    undoText: 'source only',
    async undo({ instanceId, sourceHostId }) {
      const { hostId } = await world.database.prisma.instance.findUniqueOrThrow({ where: { id: instanceId } });
      await requestOfInstance(world, instanceId, [hostId ?? sourceHostId], { must: false });
    },
  }),

  /** Only once the port is up at the target: clearing the second chassis earlier can lose the guest's announcement. */
  bindToTarget: step({
    system: 'ovn',
    async do({ instanceId, targetHostId }: InstanceRef & { targetHostId: string }) {
      await requestOfInstance(world, instanceId, [targetHostId], { must: true });
    },
  }),
});
