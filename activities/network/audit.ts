/**
 * OVN's rows beside the records, both piece by piece: the database answers everybody in turn, and one answer with all of it would hold up whoever changes
 * anything. So they are not of one moment. What changes meanwhile looks wrong once, and is told only if it is seen again.
 */
import {
  clock,
  ovnPage,
  type RecordedPort,
  recordedAddressGroups,
  recordedBalancers,
  recordedFloatingIps,
  recordedForwards,
  recordedGroups,
  recordedListeners,
  recordedNetworks,
  recordedPolicies,
  recordedPorts,
  recordedRouteTables,
  recordedSubnets,
  recordedVpcs,
} from '../../database/audit.ts';
import type { Queryable } from '../../database/database.ts';
import { type Sighting, seeAll } from '../../database/findings.ts';
import { isLeading, type LeadingForward } from '../../database/floatingIps.ts';
import type { ListenerRecord } from '../../database/loadBalancers.ts';
import type { Statement } from '../../database/statement.ts';
import { firstId } from '../../database/wellKnown.ts';
import type { Entry } from '../../model/network/addressGroup.ts';
import { type KindInOvn, kindsInOvn } from '../../model/network/network.ts';
import type { World } from '../world.ts';
import { addressSetRow } from './addressGroup.ts';
import { aclColumns, firewallGroupName, rowsOfPolicy } from './firewallWrites.ts';
import { addressAt, targetOf } from './floatingIp.ts';
import { balancerName, listenerRows, addressAt as portAddress } from './loadBalancer.ts';
import { localnetName, localnetRow, networkAcls, networkGroup, switchName, type Wired } from './network.ts';
import { addressesOf, enabledOf, namesOf, qosRows } from './networkInterface.ts';
import { mapOf, members, type OvsdbOperation, type OvsdbRow } from './northbound.ts';
import { balancerRow, forwardName, guardRow } from './portForward.ts';
import { type AtRouter, type RouterColumn, routerName, routerTables } from './router.ts';
import { routesAt } from './routeTable.ts';
import { type Acl, aclsOf, type Rule, securityGroupName } from './securityGroup.ts';
import { servedRow, subnetAtRouter } from './subnet.ts';
import { uplinkAt } from './vpc.ts';

const columns = {
  Logical_Switch: ['name', 'ports', 'acls', 'qos_rules', 'dns_records', 'load_balancer_group', 'external_ids'],
  Port_Group: ['name', 'acls', 'ports', 'external_ids'],
  ACL: ['_uuid', 'direction', 'priority', 'match', 'action', 'log', 'name', 'meter', 'external_ids'],
  Meter: ['name', 'external_ids'],
  DNS: ['_uuid', 'records', 'external_ids'],
  QoS: ['direction', 'match', 'priority', 'bandwidth', 'external_ids'],
  Load_Balancer: [
    '_uuid',
    'name',
    'vips',
    'protocol',
    'ip_port_mappings',
    'selection_fields',
    'options',
    'health_check',
    'external_ids',
  ],
  Load_Balancer_Group: ['_uuid', 'name', 'load_balancer'],
  Load_Balancer_Health_Check: ['_uuid', 'vip', 'options'],
  Address_Set: ['name', 'addresses', 'external_ids'],
  Logical_Router: [
    'name',
    'ports',
    'nat',
    'static_routes',
    'policies',
    'load_balancer',
    'load_balancer_group',
    'external_ids',
  ],
  Logical_Router_Port: ['_uuid', 'name', 'mac', 'networks', 'gateway_chassis', 'ipv6_ra_configs', 'external_ids'],
  Gateway_Chassis: ['_uuid', 'chassis_name', 'priority'],
  NAT: ['type', 'external_ip', 'logical_ip', 'external_ids'],
  Logical_Router_Static_Route: ['ip_prefix', 'nexthop', 'route_table', 'external_ids'],
  Logical_Router_Policy: ['priority', 'match', 'action', 'external_ids'],
  DHCP_Options: ['_uuid', 'cidr', 'options', 'external_ids'],
  Logical_Switch_Port: [
    '_uuid',
    'name',
    'type',
    'options',
    'tag',
    'addresses',
    'port_security',
    'dhcpv4_options',
    'dhcpv6_options',
    'enabled',
    'external_ids',
  ],
} as const;
type Table = keyof typeof columns;
/** So many rows in one answer. */
const piece = 500;

/** The rows of OVN that are ours, by what leads to them. */
interface RowsOfOurs {
  switches: Map<string, OvsdbRow>;
  /** By their names: those of networks, of security groups and of firewall policies. */
  groups: Map<string, OvsdbRow>;
  /** By a port's UUID the names of the groups that it is in. */
  groupsOf: Map<string, string[]>;
  acls: Map<string, OvsdbRow>;
  addressSets: Map<string, OvsdbRow>;
  served: Map<string, OvsdbRow>;
  /** Those of firewall policies. */
  meters: Map<string, OvsdbRow>;
  ports: Map<string, OvsdbRow>;
  routers: Map<string, OvsdbRow>;
  /** What stands at routers as text, by the kind and id of what it is of. */
  atRouters: Map<string, string[]>;
  routerPorts: Map<string, OvsdbRow>;
  balancers: Map<string, OvsdbRow>;
  /** Those of load balancers, by the id of each. */
  balancerGroups: Map<string, OvsdbRow>;
  checks: Map<string, OvsdbRow>;
  /** Rules of switches: what keeps others out of port forwards and of VPCs, by the id of each. */
  guards: Map<string, string[]>;
  /** What limits ports, by the id of each. */
  limits: Map<string, string[]>;
  /** What names are answered, by the id of the interface. */
  names: Map<string, OvsdbRow>;
  chassis: Map<string, OvsdbRow>;
  /** All ids that rows are tagged with. */
  tagged: Map<KindInOvn, Set<string>>;
}

/** A reference as text, to be compared. */
const uuidOf = (reference: unknown): string => (Array.isArray(reference) ? String(reference[1]) : '');
const references = (value: unknown): Set<string> => new Set(members(value).map(uuidOf));
const texts = (value: unknown): string => JSON.stringify(members(value).map(String).sort());

/** Of a table that no other row has to lead to: which rows are ours. Their tags alone are small enough for one answer. */
async function oursIn({ northbound }: Pick<World, 'northbound'>, table: Table): Promise<string[]> {
  const [found] = await northbound.transact('look for what has a record', [
    { op: 'select', table, where: [], columns: ['_uuid', 'external_ids'] },
  ]);
  return (found?.rows ?? [])
    .filter(({ external_ids }) => isOurs(mapOf(external_ids)))
    .map(({ _uuid }) => uuidOf(_uuid));
}

/** By their ids the database finds rows without looking at all others. */
async function* rowsOf(
  { northbound }: Pick<World, 'northbound'>,
  table: Table,
  uuids: Iterable<string>,
): AsyncGenerator<OvsdbRow> {
  const left = [...new Set(uuids)];
  while (left.length > 0) {
    const results = await northbound.transact(
      'compare with the records',
      left.splice(-piece).map(
        (uuid): OvsdbOperation => ({
          op: 'select',
          table,
          where: [['_uuid', '==', ['uuid', uuid]]],
          columns: [...columns[table]],
        }),
      ),
    );
    for (const { rows } of results) yield* rows ?? [];
  }
}

/** They have no tags: their names tell whose they are. */
async function groupsOfBalancers({ northbound }: Pick<World, 'northbound'>): Promise<Map<string, OvsdbRow>> {
  const table = 'Load_Balancer_Group';
  const [found] = await northbound.transact('look for load balancers', [
    { op: 'select', table, where: [], columns: [...columns[table]] },
  ]);
  const own = balancerName('');
  return new Map(
    (found?.rows ?? []).flatMap((row): [string, OvsdbRow][] => {
      const id = String(row.name).slice(own.length);
      return row.name === balancerName(id) && isUuid.test(id) ? [[id, row]] : [];
    }),
  );
}

const isUuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

const isOurs = (tags: Record<string, string>): boolean => Boolean(tags['belay:kind'] && tags['belay:id']);

/** All rows that are ours, and what they lead to. */
export async function readNorthbound(world: Pick<World, 'northbound'>): Promise<RowsOfOurs> {
  const tagged = new Map(kindsInOvn.map((kind): [KindInOvn, Set<string>] => [kind, new Set()]));
  async function keyed(
    table: Table,
    uuids: Iterable<string>,
    key: (row: OvsdbRow, id: string) => string,
  ): Promise<Map<string, OvsdbRow>> {
    const found = new Map<string, OvsdbRow>();
    for await (const row of rowsOf(world, table, uuids)) {
      const tags = mapOf(row.external_ids);
      if (!isOurs(tags)) continue;
      const { 'belay:kind': kind, 'belay:id': id = '' } = tags;
      tagged.get(kind as KindInOvn)?.add(id);
      found.set(key(row, id), row);
    }
    return found;
  }
  const byId = (_: OvsdbRow, id: string): string => id;
  const byName = (row: OvsdbRow): string => String(row.name);
  const all = async (table: Table, key: (row: OvsdbRow, id: string) => string): Promise<Map<string, OvsdbRow>> =>
    keyed(table, await oursIn(world, table), key);
  const within = (holders: Map<string, OvsdbRow>, column: string): string[] =>
    [...holders.values()].flatMap((row) => [...references(row[column])]);

  const switches = await all('Logical_Switch', byId);
  const ports = await keyed('Logical_Switch_Port', within(switches, 'ports'), byName);
  // After the ports: a port is put into its groups when it is made.
  const groups = await all('Port_Group', byName);
  const groupsOf = new Map<string, string[]>();
  for (const [name, row] of groups)
    for (const uuid of references(row.ports)) groupsOf.set(uuid, [...(groupsOf.get(uuid) ?? []), name]);
  const acls = new Map<string, OvsdbRow>();
  for await (const row of rowsOf(world, 'ACL', within(groups, 'acls'))) acls.set(uuidOf(row._uuid), row);
  const addressSets = await all('Address_Set', byId);
  const served = await all('DHCP_Options', byId);
  const routers = await all('Logical_Router', byId);
  const routerPorts = await keyed('Logical_Router_Port', within(routers, 'ports'), byName);
  const chassis = new Map<string, OvsdbRow>();
  for await (const row of rowsOf(world, 'Gateway_Chassis', within(routerPorts, 'gateway_chassis')))
    chassis.set(uuidOf(row._uuid), row);
  const balancers = await all('Load_Balancer', byId);
  const checks = new Map<string, OvsdbRow>();
  for await (const row of rowsOf(world, 'Load_Balancer_Health_Check', within(balancers, 'health_check')))
    checks.set(uuidOf(row._uuid), row);
  const balancerGroups = await groupsOfBalancers(world);
  for (const id of balancerGroups.keys()) tagged.get('loadBalancer')?.add(id);
  const guards = new Map<string, string[]>();
  for await (const row of rowsOf(world, 'ACL', within(switches, 'acls'))) {
    const { 'belay:kind': kind, 'belay:id': id = '' } = mapOf(row.external_ids);
    tagged.get(kind as KindInOvn)?.add(id);
    guards.set(id, [...(guards.get(id) ?? []), aclText(row)]);
  }
  const limits = new Map<string, string[]>();
  for await (const row of rowsOf(world, 'QoS', within(switches, 'qos_rules'))) {
    const { 'belay:kind': kind, 'belay:id': id = '' } = mapOf(row.external_ids);
    tagged.get(kind as KindInOvn)?.add(id);
    limits.set(id, [...(limits.get(id) ?? []), limitText(row)]);
  }
  const names = await all('DNS', byId);
  const atRouters = new Map<string, string[]>();
  for (const column of routerColumns)
    for await (const row of rowsOf(world, routerTables[column], within(routers, column))) {
      const { 'belay:kind': kind, 'belay:id': id = '' } = mapOf(row.external_ids);
      tagged.get(kind as KindInOvn)?.add(id);
      const key = `${kind}/${id}`;
      atRouters.set(key, [...(atRouters.get(key) ?? []), rowText(column, row)]);
    }
  const meters = await all('Meter', byId);
  return {
    switches,
    groups,
    groupsOf,
    acls,
    addressSets,
    served,
    meters,
    ports,
    routers,
    atRouters,
    routerPorts,
    balancers,
    balancerGroups,
    checks,
    guards,
    limits,
    names,
    chassis,
    tagged,
  };
}

const aclText = ({ direction, priority, match, action }: OvsdbRow | Acl): string =>
  `${String(direction)} ${String(priority)} ${String(match)} ${String(action)}`;

const limitText = ({ direction, priority, match, bandwidth }: OvsdbRow): string =>
  `${String(direction)} ${String(priority)} ${String(match)} ${JSON.stringify(mapOf(bandwidth))}`;

const routerColumns = Object.keys(routerTables) as RouterColumn[];
const compared: Record<RouterColumn, readonly string[]> = {
  nat: ['type', 'external_ip', 'logical_ip'],
  static_routes: ['ip_prefix', 'nexthop', 'route_table'],
  policies: ['priority', 'match', 'action'],
};
const rowText = (column: RouterColumn, row: OvsdbRow): string =>
  `${column} ${compared[column].map((name) => String(row[name] ?? '')).join(' ')}`;

/** What is wrong with what stands of something at the router of a VPC, or null. */
function routerFault(
  found: RowsOfOurs,
  of: { vpcId: string; kind: string; id: string },
  all: AtRouter[],
): Fault | null {
  const drifted = (actual: string): Fault => ({ class: 'drifted', actual });
  if (!found.routers.has(of.vpcId)) return { class: 'missing', actual: `there is no router ${routerName(of.vpcId)}` };
  const wanted = all.flatMap(({ rows }) =>
    routerColumns.flatMap((column) => (rows[column] ?? []).map((row) => rowText(column, row))),
  );
  const real = found.atRouters.get(`${of.kind}/${of.id}`) ?? [];
  if (wanted.sort().join('\n') !== [...real].sort().join('\n'))
    return drifted(`router ${routerName(of.vpcId)} has other rows of it than the recorded`);
  const rules = all.flatMap(({ ports = [] }) => ports.flatMap(({ acls = [] }) => acls.map(aclText)));
  if (rules.sort().join('\n') !== [...(found.guards.get(of.id) ?? [])].sort().join('\n'))
    return drifted('other things can come in by its uplinks than the recorded');
  for (const { name, switchPort, networkId, row, chassis } of all.flatMap(({ ports = [] }) => ports)) {
    const port = found.routerPorts.get(name);
    if (!port) return { class: 'missing', actual: `there is no router port ${name}` };
    if (port.mac !== row.mac || texts(port.networks) !== texts(row.networks))
      return drifted(`router port ${name} has other addresses than the recorded`);
    const told = ({ ipv6_ra_configs }: OvsdbRow): string =>
      JSON.stringify(Object.entries(mapOf(ipv6_ra_configs)).sort());
    if (told(port) !== told(row)) return drifted(`router port ${name} tells guests another thing than the recorded`);
    const carriers = [...references(port.gateway_chassis)]
      .flatMap((uuid): OvsdbRow[] => {
        const row = found.chassis.get(uuid);
        return row ? [row] : [];
      })
      .sort((one, other) => Number(other.priority) - Number(one.priority))
      .map(({ chassis_name }) => String(chassis_name));
    if (chassis && carriers.join() !== chassis.join())
      return drifted(`router port ${name} is carried by other hosts than the recorded`);
    const counterpart = found.ports.get(switchPort);
    if (!counterpart) return { class: 'missing', actual: `there is no switch port ${switchPort}` };
    const holder = found.switches.get(networkId);
    if (holder && !references(holder.ports).has(uuidOf(counterpart._uuid)))
      return drifted(`switch port ${switchPort} is in another switch`);
  }
  return null;
}

/** With what a row is logged beside that. */
const loggedText = (row: OvsdbRow): string =>
  `${aclText(row)} ${row.log === true ? `${members(row.name).join()} ${members(row.meter).join()}` : 'unlogged'}`;

/** What is wrong with the rows of a firewall policy, or null. */
function policyFault(found: RowsOfOurs, policy: RecordedPolicy): Fault | null {
  const name = firewallGroupName(policy.id);
  const entries = new Map(policy.groups.map((group) => [group.id, group.entries.map(({ cidr }) => cidr)]));
  const wanted = rowsOfPolicy(policy, (id) => entries.get(id) ?? []).map((row) => aclColumns(row, name));
  const group = found.groups.get(name);
  if (!group) return { class: 'missing', actual: `there is no port group ${name}` };
  const real = [...references(group.acls)].map((uuid) => loggedText(found.acls.get(uuid) ?? {})).sort();
  if (real.join('\n') !== wanted.map(loggedText).sort().join('\n'))
    return { class: 'drifted', actual: `the rules of port group ${name} are others than the recorded` };
  return wanted.some(({ log }) => log === true) && found.meters.get(policy.id)?.name !== name
    ? { class: 'missing', actual: `there is no meter ${name}` }
    : null;
}

/** What is wrong with the balancer of a port forward, or null. */
function forwardFault(found: RowsOfOurs, forward: LeadingForward): Fault | null {
  const drifted = (actual: string): Fault => ({ class: 'drifted', actual });
  const row = found.balancers.get(forward.id);
  if (!row) return { class: 'missing', actual: `there is no balancer ${forwardName(forward.id)}` };
  const told = ({ protocol, vips }: OvsdbRow): string =>
    JSON.stringify([members(protocol), Object.entries(mapOf(vips)).sort()]);
  if (told(row) !== told(balancerRow(forward)))
    return drifted(`balancer ${forwardName(forward.id)} leads elsewhere than the recorded`);
  const router = found.routers.get(forward.vpcId);
  if (router && !references(router.load_balancer).has(uuidOf(row._uuid)))
    return drifted(`balancer ${forwardName(forward.id)} is at another router`);
  const guard = guardRow(forward);
  return (found.guards.get(forward.id) ?? []).join('\n') === (guard ? aclText(guard) : '')
    ? null
    : drifted(`balancer ${forwardName(forward.id)} lets others in than the recorded`);
}

/** What is wrong with the group of a load balancer, or null. */
function balancerFault(
  found: RowsOfOurs,
  { id, vpcId, networkIds }: { id: string; vpcId: string; networkIds: string[] },
): Fault | null {
  const group = found.balancerGroups.get(id);
  if (!group) return { class: 'missing', actual: `there is no group ${balancerName(id)}` };
  const isAt = (holder: OvsdbRow | undefined): boolean =>
    !holder || references(holder.load_balancer_group).has(uuidOf(group._uuid));
  if (!isAt(found.routers.get(vpcId)))
    return { class: 'drifted', actual: `group ${balancerName(id)} is not at router ${routerName(vpcId)}` };
  const without = networkIds.find((networkId) => !isAt(found.switches.get(networkId)));
  return without
    ? { class: 'drifted', actual: `group ${balancerName(id)} is not at switch ${switchName(without)}` }
    : null;
}

/** What is wrong with the balancer of a listener, or null. */
function listenerFault(found: RowsOfOurs, listener: ListenerRecord): Fault | null {
  const name = balancerName(listener.id);
  const row = found.balancers.get(listener.id);
  if (!row) return { class: 'missing', actual: `there is no balancer ${name}` };
  const drifted = (actual: string): Fault => ({ class: 'drifted', actual });
  const { balancer, checks } = listenerRows(listener, (id) => portAddress(found.ports.get(id)));
  const pairs = (value: unknown): [string, string][] => Object.entries(mapOf(value)).sort();
  const told = (one: OvsdbRow): string =>
    JSON.stringify([
      members(one.protocol),
      pairs(one.vips),
      pairs(one.ip_port_mappings),
      texts(one.selection_fields),
      pairs(one.options),
    ]);
  if (told(row) !== told(balancer)) return drifted(`balancer ${name} leads elsewhere than the recorded`);
  const checked = (one: OvsdbRow): string => JSON.stringify([one.vip, pairs(one.options)]);
  const real = [...references(row.health_check)].map((uuid) => checked(found.checks.get(uuid) ?? {})).sort();
  if (real.join() !== checks.map(checked).sort().join())
    return drifted(`the targets of balancer ${name} are asked in another way than the recorded`);
  const group = found.balancerGroups.get(listener.loadBalancerId);
  return group && !references(group.load_balancer).has(uuidOf(row._uuid))
    ? drifted(`balancer ${name} is in another group`)
    : null;
}

/** What is wrong with a port group, or null. */
function groupFault(found: RowsOfOurs, name: string, wanted: Acl[]): Fault | null {
  const group = found.groups.get(name);
  if (!group) return { class: 'missing', actual: `there is no port group ${name}` };
  const real = [...references(group.acls)].map((uuid) => aclText(found.acls.get(uuid) ?? {})).sort();
  const recorded = wanted.map(aclText).sort();
  return real.join('\n') === recorded.join('\n')
    ? null
    : { class: 'drifted', actual: `the rules of port group ${name} are others than the recorded` };
}

type RecordedPolicy = Awaited<ReturnType<typeof recordedPolicies>>[number];

/** What is wrong with the address set of a group, or null. */
function setFault(found: RowsOfOurs, id: string, family: number, entries: readonly Entry[]): Fault | null {
  const row = found.addressSets.get(id);
  const { name, addresses } = addressSetRow(id, family, entries);
  if (row?.name !== name) return { class: 'missing', actual: `there is no address set ${name}` };
  return texts(row.addresses) === texts(addresses)
    ? null
    : { class: 'drifted', actual: `the addresses of address set ${name} are others than the recorded` };
}

interface Fault {
  class: 'missing' | 'drifted';
  actual: string;
}

/** What is wrong with the port through which a network leaves OVN, or null. */
function wireFault(found: RowsOfOurs, network: { id: string } & Wired): Fault | null {
  const wanted = localnetRow(network);
  if (!wanted) return null;
  const row = found.ports.get(localnetName(network.id));
  if (!row) return { class: 'missing', actual: `there is no port ${localnetName(network.id)}` };
  const told = ({ type, options, tag }: OvsdbRow): string =>
    JSON.stringify([type, mapOf(options), members(tag).filter((one) => one !== undefined)]);
  if (told(row) !== told(wanted))
    return { class: 'drifted', actual: `port ${localnetName(network.id)} leads to another wire than the recorded` };
  return found.switches.has(network.id) && !references(found.switches.get(network.id)?.ports).has(uuidOf(row._uuid))
    ? { class: 'drifted', actual: `port ${localnetName(network.id)} is in another switch` }
    : null;
}

function portFault(found: RowsOfOurs, port: RecordedPort): Fault | null {
  const row = found.ports.get(port.id);
  if (!row) return { class: 'missing', actual: 'there is no switch port' };
  const uuid = uuidOf(row._uuid);
  const wanted = addressesOf(port);
  const drifted = (actual: string): Fault => ({ class: 'drifted', actual });
  if (texts(row.addresses) !== texts(wanted.addresses))
    return drifted(`the switch port has the addresses ${texts(row.addresses)}`);
  if (texts(row.port_security) !== texts(wanted.port_security))
    return drifted(`the switch port may send with ${texts(row.port_security)}`);
  if (texts(row.enabled) !== texts(enabledOf(port)))
    return drifted(`the link of the switch port is ${port.linkUp ? 'down' : 'up'}`);
  if ((found.limits.get(port.id) ?? []).sort().join() !== qosRows(port).map(limitText).sort().join())
    return drifted('the switch port is limited in another way than the recorded');
  const name = found.names.get(port.id);
  const told = (records: Record<string, string>): string => JSON.stringify(Object.entries(records).sort());
  if (told(mapOf(name?.records)) !== told(namesOf(port) ?? {}))
    return drifted('its name is answered in another way than the recorded');
  const unaware = (name ? port.namedOn : [])
    .map((id) => found.switches.get(id))
    .find((one) => one && !references(one.dns_records).has(uuidOf(name?._uuid)));
  if (unaware) return drifted(`its name is not answered on ${String(unaware.name)}`);
  const served = found.served.get(port.subnetId ?? '');
  if (served && port.dhcp && uuidOf(row.dhcpv4_options) !== uuidOf(served._uuid))
    return drifted('the switch port is not served by DHCP');
  const served6 = found.served.get(port.subnet6Id ?? '');
  if (served6 && port.dhcp6 && uuidOf(row.dhcpv6_options) !== uuidOf(served6._uuid))
    return drifted('the switch port is not served by DHCPv6');
  const names = [
    networkGroup(port.networkId),
    ...port.securityGroupIds.map(securityGroupName),
    ...(port.firewallPolicyId ? [firewallGroupName(port.firewallPolicyId)] : []),
  ];
  const holders = [found.switches.get(port.networkId), ...names.map((name) => found.groups.get(name))];
  const without = holders.find((holder) => holder && !references(holder.ports).has(uuid));
  if (without) return drifted(`the switch port is not in ${String(without.name)}`);
  const foreign = found.groupsOf.get(uuid)?.find((name) => !names.includes(name));
  return foreign ? drifted(`the switch port is in ${foreign}, too`) : null;
}

/** All rows of a statement that is asked page by page. */
async function* pages<Row extends { id: string }>(
  on: Queryable,
  ask: Statement<{ after: string }, Row>,
): AsyncGenerator<Row> {
  for (let after: string | undefined = firstId; after !== undefined; ) {
    const rows: Row[] = await ask(on, { after });
    yield* rows;
    after = rows.length === ovnPage ? rows.at(-1)?.id : undefined;
  }
}

const whatOf: Record<KindInOvn, string> = {
  floatingIp: 'publicAddressRows',
  portForward: 'forwardRows',
  loadBalancer: 'balancerRows',
  listener: 'listenerRows',
  vpc: 'vpcRows',
  routeTable: 'routeRows',
  network: 'networkRows',
  subnet: 'subnetRows',
  addressGroup: 'addressRows',
  securityGroup: 'groupRows',
  firewallPolicy: 'policyRows',
  networkInterface: 'portRows',
};

/** Compares everything, and answers how many findings there are of it. */
export async function scanNetwork(world: World): Promise<{ differences: number }> {
  const { connections } = world.database;
  const [look] = await clock(connections);
  const found = await readNorthbound(world);
  const sightings: Sighting[] = [];
  const busy: string[] = [];
  const living = new Map(kindsInOvn.map((kind): [KindInOvn, Set<string>] => [kind, new Set()]));

  const compare = (
    kind: KindInOvn,
    row: { id: string; wanted: boolean; busy: boolean; zoneId: string | null },
    faults: () => (Fault | null)[],
    repair: { action: string; targetId: string },
  ): void => {
    living.get(kind)?.add(row.id);
    if (row.busy) busy.push(row.id);
    else if (row.wanted) {
      const [first] = faults().filter((fault) => fault !== null);
      if (first)
        sightings.push({
          class: first.class,
          severity: 'error',
          what: whatOf[kind],
          resourceKind: kind,
          resourceId: row.id,
          system: 'ovn',
          location: row.zoneId,
          expected: 'the rows of OVN are as the records say',
          actual: first.actual,
          repair: { ...repair, input: {} },
        });
    } else if (found.tagged.get(kind)?.has(row.id)) sightings.push(strayOf(kind, row.id, false));
  };

  for await (const vpc of pages(connections, recordedVpcs))
    compare(
      'vpc',
      vpc,
      () => [
        routerFault(
          found,
          { vpcId: vpc.id, kind: 'vpc', id: vpc.id },
          vpc.uplinks.map((uplink) => uplinkAt(vpc, uplink)),
        ),
      ],
      { action: 'vpc.repair', targetId: vpc.id },
    );
  for await (const table of pages(connections, recordedRouteTables))
    compare(
      'routeTable',
      table,
      () => [routerFault(found, { vpcId: table.vpcId, kind: 'routeTable', id: table.id }, [routesAt(table)])],
      { action: 'vpc.repair', targetId: table.vpcId },
    );
  for await (const address of pages(connections, recordedFloatingIps)) {
    const target = targetOf(address);
    compare(
      'floatingIp',
      address,
      () => [
        target
          ? routerFault(found, { vpcId: target.vpcId, kind: 'floatingIp', id: address.id }, [
              addressAt(address, target),
            ])
          : null,
      ],
      { action: 'vpc.repair', targetId: address.vpcId ?? '' },
    );
  }
  for await (const forward of pages(connections, recordedForwards))
    compare('portForward', forward, () => [isLeading(forward) ? forwardFault(found, forward) : null], {
      action: 'vpc.repair',
      targetId: forward.vpcId ?? '',
    });
  for await (const balancer of pages(connections, recordedBalancers))
    compare('loadBalancer', balancer, () => [balancerFault(found, balancer)], {
      action: 'loadBalancer.repair',
      targetId: balancer.id,
    });
  for await (const listener of pages(connections, recordedListeners))
    compare('listener', listener, () => [listenerFault(found, listener)], {
      action: 'loadBalancer.repair',
      targetId: listener.loadBalancerId,
    });
  for await (const network of pages(connections, recordedNetworks)) {
    const group = networkGroup(network.id);
    compare(
      'network',
      network,
      () => [
        found.switches.get(network.id)?.name === switchName(network.id)
          ? null
          : { class: 'missing', actual: `there is no switch ${switchName(network.id)}` },
        wireFault(found, network),
        groupFault(found, group, Object.values(networkAcls(group))),
      ],
      { action: 'network.repair', targetId: network.id },
    );
  }
  for await (const subnet of pages(connections, recordedSubnets)) {
    const row = found.served.get(subnet.id);
    const wanted = servedRow(subnet.id, subnet);
    const at = subnetAtRouter(subnet.id, subnet);
    const isAsRecorded =
      row &&
      row.cidr === wanted.cidr &&
      JSON.stringify(Object.entries(mapOf(row.options)).sort()) ===
        JSON.stringify(Object.entries(mapOf(wanted.options)).sort());
    compare(
      'subnet',
      subnet,
      () => [
        row || !subnet.dhcp ? null : { class: 'missing', actual: 'there are no DHCP options' },
        isAsRecorded || !subnet.dhcp
          ? null
          : { class: 'drifted', actual: 'its DHCP options are others than the recorded' },
        at ? routerFault(found, { vpcId: at.vpcId, kind: 'subnet', id: subnet.id }, [at]) : null,
      ],
      { action: 'network.repair', targetId: subnet.networkId },
    );
  }
  for await (const group of pages(connections, recordedAddressGroups))
    compare('addressGroup', group, () => [setFault(found, group.id, group.family, group.entries)], {
      action: 'addressGroup.repair',
      targetId: group.id,
    });
  for await (const group of pages(connections, recordedGroups)) {
    const name = securityGroupName(group.id);
    compare('securityGroup', group, () => [groupFault(found, name, aclsOf(name, group.rules as Rule[]))], {
      action: 'securityGroup.repair',
      targetId: group.id,
    });
  }
  for await (const policy of pages(connections, recordedPolicies))
    compare('firewallPolicy', policy, () => [policyFault(found, policy)], {
      action: 'firewallPolicy.repair',
      targetId: policy.id,
    });
  for await (const port of pages(connections, recordedPorts))
    compare('networkInterface', port, () => [portFault(found, port)], {
      // One that is attached is written with all others of its instance.
      ...(port.instanceId === null
        ? { action: 'networkInterface.repair', targetId: port.id }
        : { action: 'network.repair', targetId: port.networkId }),
    });

  for (const [kind, ids] of found.tagged)
    for (const id of ids) if (!living.get(kind)?.has(id)) sightings.push(strayOf(kind, id, true));
  const since = look?.at ?? new Date();
  await seeAll(connections, { system: 'ovn', location: null, what: Object.values(whatOf), since }, sightings, busy);
  return { differences: sightings.length };
}

const strayOf = (kind: KindInOvn, id: string, isGone: boolean): Sighting => ({
  class: 'orphan',
  severity: 'warning',
  what: whatOf[kind],
  resourceKind: kind,
  resourceId: id,
  system: 'ovn',
  expected: isGone ? `no rows of it: there is no such ${kind}` : `no rows of it, in the state that this ${kind} is in`,
  actual: 'OVN has rows of it',
  // What has a record may need them again; whoever changes it next writes or removes them.
  repair: isGone ? { action: 'network.removeStray', targetId: null, input: { kind, id } } : null,
});
