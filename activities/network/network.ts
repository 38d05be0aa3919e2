import { livingOf } from '../../database/audit.ts';
import { namedInVpcOf } from '../../database/networks.ts';
import { from, statement, type Values } from '../../database/statement.ts';
import { kindOf } from '../../model/kinds.ts';
import { refuse } from '../failure.ts';
import { step } from '../step.ts';
import type { World } from '../world.ts';
import { carryFirewallPolicy } from './firewallPolicy.ts';
import { attachBalancers, balancerRemoval } from './loadBalancer.ts';
import {
  absent,
  type Condition,
  map,
  type OvsdbOperation,
  type OvsdbResult,
  type OvsdbRow,
  present,
  rowTags,
  set,
  taggedWith,
} from './northbound.ts';
import { wireName } from './physicalNetwork.ts';
import { portsOf } from './ports.ts';
import { routerTables } from './router.ts';
import { type Acl, priorities } from './securityGroup.ts';

const hex = (id: string): string => id.replaceAll('-', '');
/** The port through which a network on a wire leaves OVN. */
export const localnetName = (networkId: string): string => `localnet-${networkId}`;
export const switchName = (networkId: string): string => `network-${networkId}`;
/** All ports of a network: inbound is closed unless a security group opens it, outbound is open and tracked. */
export const networkGroup = (networkId: string): string => `net_${hex(networkId)}`;

/** What holds on every port of a network, whatever security groups it carries. */
export const networkAcls = (group: string): Record<'inbound' | 'outbound', Acl> => ({
  inbound: { direction: 'to-lport', priority: priorities.network, match: `outport == @${group} && ip`, action: 'drop' },
  outbound: {
    direction: 'from-lport',
    priority: priorities.network,
    match: `inport == @${group} && ip`,
    action: 'allow-related',
  },
});

/** What of a network is on the wire, or null of one that is not. */
export function localnetRow(network: Wired): OvsdbRow | null {
  const { physicalNetworkId, segmentId, type } = network;
  if (type === 'overlay' || !physicalNetworkId) return null;
  return {
    type: 'localnet',
    options: map({ network_name: wireName(physicalNetworkId) }),
    // A port of its own for what nobody else has: all that is not OVN's.
    addresses: 'unknown',
    tag: segmentId ? segmentId : set([]),
  };
}

const remove = (networkId: string): OvsdbOperation[] => [
  { op: 'delete', table: 'Port_Group', where: taggedWith('network', networkId) },
  { op: 'delete', table: 'Logical_Switch', where: taggedWith('network', networkId) },
];

const wiredAs = statement((p: Values<{ id: string }>) =>
  from.selectFrom('network').select(['type', 'physicalNetworkId', 'segmentId']).where('id', '=', p.id),
);
export type Wired = { type: string; physicalNetworkId: string | null; segmentId: number | null };

/** Rows of names that are answered on the other networks of its VPC. */
async function namesFor(world: World, networkId: string): Promise<unknown[]> {
  const named = await namedInVpcOf(world.database.connections, { networkId });
  const found = await world.northbound.transact(
    `look for names of network ${networkId}`,
    named.map(
      ({ id }): OvsdbOperation => ({
        op: 'select',
        table: 'DNS',
        where: taggedWith('networkInterface', id),
        columns: ['_uuid'],
      }),
    ),
  );
  return found.flatMap(({ rows }) => (rows ?? []).map(({ _uuid }) => _uuid));
}

/** Writes all rows of a network, whether they are there or not; ports that hang on them stay. */
async function write(world: World, networkId: string): Promise<void> {
  const where = taggedWith('network', networkId);
  const columns = ['_uuid'];
  const [network] = await wiredAs(world.database.connections, { id: networkId });
  const localnet = network ? localnetRow(network) : null;
  const port = localnetName(networkId);
  const [switches, groups, wirePorts] = await world.northbound.transact(`look for network ${networkId}`, [
    { op: 'select', table: 'Logical_Switch', where, columns },
    { op: 'select', table: 'Port_Group', where, columns },
    { op: 'select', table: 'Logical_Switch_Port', where: [['name', '==', port]], columns },
  ]);
  const group = networkGroup(networkId);
  const external_ids = rowTags('network', networkId);
  const acls = networkAcls(group);
  const names = await namesFor(world, networkId);
  const references = set(Object.keys(acls).map((name) => ['named-uuid', name]));
  const ports = (groups?.rows?.length ?? 0) > 0 ? null : set(await portsOf(world, 'networkId', networkId));
  const put = (table: string, found: OvsdbResult | undefined, row: OvsdbRow): OvsdbOperation[] =>
    (found?.rows?.length ?? 0) > 0
      ? [
          present(table, where, `the ${table} row of network ${networkId} has gone from OVN meanwhile`),
          { op: 'update', table, where, row },
        ]
      : [absent(table, where), { op: 'insert', table, row: { ...row, external_ids } }];
  await world.northbound.transact(`make network ${networkId}`, [
    ...put('Logical_Switch', switches, { name: switchName(networkId) }),
    ...(names.length > 0
      ? [
          {
            op: 'mutate' as const,
            table: 'Logical_Switch',
            where,
            mutations: [['dns_records', 'insert', set(names)]] as [string, string, unknown][],
          },
        ]
      : []),
    ...(localnet ? wireOperations(networkId, localnet, wirePorts?.rows?.[0]?._uuid) : []),
    ...Object.entries(acls).map(
      ([name, acl]): OvsdbOperation => ({
        op: 'insert',
        table: 'ACL',
        'uuid-name': name,
        row: { ...acl, external_ids },
      }),
    ),
    ...put('Port_Group', groups, { name: group, acls: references, ...(ports ? { ports } : {}) }),
  ]);
  await attachBalancers(world, networkId);
}

/** The port is in its switch, or it is not made. */
function wireOperations(networkId: string, row: OvsdbRow, known: unknown): OvsdbOperation[] {
  const table = 'Logical_Switch_Port';
  const where: Condition[] = [['name', '==', localnetName(networkId)]];
  const port = known ?? ['named-uuid', 'wire'];
  return [
    known
      ? { op: 'update', table, where, row }
      : {
          op: 'insert',
          table,
          'uuid-name': 'wire',
          row: { name: localnetName(networkId), ...row, external_ids: rowTags('network', networkId) },
        },
    {
      op: 'mutate',
      table: 'Logical_Switch',
      where: taggedWith('network', networkId),
      mutations: [['ports', 'insert', set([port])]],
    },
  ];
}

export interface Stray {
  kind: keyof typeof strayTables;
  id: string;
}

/** Where the rows of each kind are that nothing has to refer to. */
const strayTables = {
  vpc: ['Logical_Router'],
  routeTable: [],
  floatingIp: [],
  portForward: ['Load_Balancer'],
  // Its group has no tag, and is found by its name.
  loadBalancer: [],
  listener: ['Load_Balancer'],
  network: ['Port_Group', 'Logical_Switch'],
  subnet: ['DHCP_Options'],
  addressGroup: ['Address_Set'],
  securityGroup: ['Port_Group'],
  firewallPolicy: ['Port_Group', 'Meter'],
  networkInterface: ['DNS'],
} as const;

/** What is no root in OVN, by what refers to it and in which column: it goes with the last that does. */
const referred = [
  ['Logical_Switch', 'ports', 'Logical_Switch_Port'],
  ['Port_Group', 'ports', 'Logical_Switch_Port'],
  ['Logical_Switch', 'acls', 'ACL'],
  ['Logical_Switch', 'qos_rules', 'QoS'],
  ['Logical_Router', 'ports', 'Logical_Router_Port'],
  ...Object.entries(routerTables).map(([column, table]) => ['Logical_Router', column, table] as const),
] as const;

async function removeStray(world: World, kind: Stray['kind'], id: string): Promise<void> {
  const where = taggedWith(kind, id);
  const comment = `remove stray ${kind} ${id}`;
  const found = await world.northbound.transact(
    comment,
    referred.map(([, , table]): OvsdbOperation => ({ op: 'select', table, where, columns: ['_uuid'] })),
  );
  await world.northbound.transact(comment, [
    ...(kind === 'loadBalancer' ? await balancerRemoval(world, id) : []),
    ...strayTables[kind].map((table): OvsdbOperation => ({ op: 'delete', table, where })),
    ...referred.flatMap(([holder, column], index) =>
      (found[index]?.rows ?? []).map(
        ({ _uuid }): OvsdbOperation => ({
          op: 'mutate',
          table: holder,
          where: [[column, 'includes', set([_uuid])]],
          mutations: [[column, 'delete', set([_uuid])]],
        }),
      ),
    ),
  ]);
}

export const networks = (world: World) => ({
  /** The network's logical switch, and the port group that closes inbound traffic. */
  make: step({
    system: 'ovn',
    do: ({ networkId }: { networkId: string }) => write(world, networkId),
    undoText: 'delete switch',
    async undo({ networkId }) {
      await world.northbound.transact(`remove network ${networkId}`, remove(networkId));
    },
  }),
  remove: step({
    system: 'ovn',
    async do({ networkId }: { networkId: string }) {
      await world.northbound.transact(`remove network ${networkId}`, remove(networkId));
    },
  }),

  carryFirewallPolicy: carryFirewallPolicy(world),

  /** What has no record gets none any more: nobody can be about to need its rows. */
  findStray: step({
    system: 'record',
    async do({ kind, id }: Stray) {
      const [living] = await livingOf(kindOf(kind))(world.database.connections, { id });
      if (living) throw refuse('INVALID_STATE', `there is a ${kind} ${id}: its rows are no strays`);
    },
  }),

  removeStray: step({
    system: 'ovn',
    do: ({ kind, id }: Stray) => removeStray(world, kind, id),
  }),
});
