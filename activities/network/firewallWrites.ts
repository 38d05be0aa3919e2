/** What is written to OVN for firewall policies, by their own steps and by those of the address groups that their rules name. */
import { policiesNaming } from '../../database/networks.ts';
import { groupsIn, type PolicyDefaults, type PolicyRule } from '../../model/network/firewallPolicy.ts';
import { type EntriesOf, type FirewallRow, firewallRows, TooIntricate } from '../../model/network/firewallRows.ts';
import { refuse } from '../failure.ts';
import type { World } from '../world.ts';
import {
  absent,
  map,
  members,
  type OvsdbOperation,
  type OvsdbRow,
  present,
  rowTags,
  set,
  taggedWith,
} from './northbound.ts';
import { portsOf } from './ports.ts';

export const firewallGroupName = (id: string): string => `fw_${id.replaceAll('-', '')}`;

/** Of every port that some policy holds for, in whichever group. */
export const ofSomePolicy: [string, string, unknown][] = [
  ['external_ids', 'includes', map({ 'belay:kind': 'firewallPolicy' })],
];

export interface Policy {
  id: string;
  rules: readonly PolicyRule[];
  defaults: PolicyDefaults;
}

/** So many lines a second of each logged row, and no more, however many packets it meets. */
const linesPerSecond = 100;

/** The columns of a row of the table ACL. */
export const aclColumns = (row: FirewallRow, meter: string): OvsdbRow => ({
  direction: row.direction,
  priority: row.priority,
  match: row.match,
  action: row.action,
  log: row.logged !== null,
  ...(row.logged === null ? {} : { name: row.logged, severity: 'info', meter }),
});

export function rowsOfPolicy({ id, rules, defaults }: Policy, entriesOf: EntriesOf): FirewallRow[] {
  try {
    return firewallRows(firewallGroupName(id), { rules, defaults }, entriesOf);
  } catch (error) {
    if (error instanceof TooIntricate)
      throw refuse('PRECONDITION_FAILED', `the rules of firewall policy ${id} come to more than a host is given`);
    throw error;
  }
}

interface Read {
  entriesOf: EntriesOf;
  /** The entries are as they were read, or nothing is written: who changes them meanwhile has written the policies that name them. */
  guards: OvsdbOperation[];
}

/** The entries of address groups as OVN has them. */
async function entriesInOvn(world: World, ids: readonly string[]): Promise<Read> {
  if (ids.length === 0) return { entriesOf: () => [], guards: [] };
  const table = 'Address_Set';
  const found = await world.northbound.transact(
    'look for address groups',
    ids.map((id) => ({ op: 'select', table, where: taggedWith('addressGroup', id), columns: ['addresses'] })),
  );
  const addresses = ids.map((id, index) => {
    const [row] = found[index]?.rows ?? [];
    if (!row)
      throw refuse(
        'PRECONDITION_FAILED',
        `OVN has no address set of address group ${id}; its action repair writes it anew`,
      );
    return members(row.addresses).map(String);
  });
  const known = new Map(ids.map((id, index) => [id, addresses[index] ?? []]));
  return {
    entriesOf: (id) => known.get(id) ?? [],
    guards: ids.map((id, index) => ({
      op: 'wait',
      table,
      where: taggedWith('addressGroup', id),
      columns: ['addresses'],
      until: '==',
      rows: [{ addresses: set(addresses[index] ?? []) }],
      timeout: 0,
    })),
  };
}

/** The rows of one policy. `mark` tells those of several in one transaction apart; `ports` are those of a port group that is made. */
function operations(
  { id }: Policy,
  rows: readonly FirewallRow[],
  mark: string,
  ports: readonly unknown[] | null,
): OvsdbOperation[] {
  const where = taggedWith('firewallPolicy', id);
  const external_ids = rowTags('firewallPolicy', id);
  const name = firewallGroupName(id);
  const acls = set(rows.map((_, index) => ['named-uuid', `${mark}${index}`]));
  return [
    // Its rate is always the same, so there is no need to change one.
    { op: 'delete', table: 'Meter', where },
    ...(rows.some(({ logged }) => logged !== null)
      ? [
          {
            op: 'insert' as const,
            table: 'Meter_Band',
            'uuid-name': `${mark}band`,
            row: { action: 'drop', rate: linesPerSecond, burst_size: linesPerSecond },
          },
          {
            op: 'insert' as const,
            table: 'Meter',
            row: { name, unit: 'pktps', fair: true, bands: ['named-uuid', `${mark}band`], external_ids },
          },
        ]
      : []),
    ...rows.map(
      (row, index): OvsdbOperation => ({
        op: 'insert',
        table: 'ACL',
        'uuid-name': `${mark}${index}`,
        row: { ...aclColumns(row, name), external_ids },
      }),
    ),
    ports === null
      ? { op: 'update', table: 'Port_Group', where, row: { acls } }
      : { op: 'insert', table: 'Port_Group', row: { name, acls, ports: set([...ports]), external_ids } },
  ];
}

const lookForGroup = (id: string): OvsdbOperation => ({
  op: 'select',
  table: 'Port_Group',
  where: taggedWith('firewallPolicy', id),
  columns: ['_uuid'],
});

/** Writes all rows of a policy in one transaction, whether they are there or not. */
export async function writePolicy(world: World, policy: Policy): Promise<void> {
  const { id } = policy;
  const where = taggedWith('firewallPolicy', id);
  const [found] = await world.northbound.transact(`look for firewall policy ${id}`, [lookForGroup(id)]);
  const isThere = (found?.rows?.length ?? 0) > 0;
  const { entriesOf, guards } = await entriesInOvn(world, groupsIn(policy.rules));
  await world.northbound.transact(`write firewall policy ${id}`, [
    ...guards,
    isThere
      ? present('Port_Group', where, `the port group of firewall policy ${id} has gone from OVN meanwhile`)
      : absent('Port_Group', where),
    ...operations(
      policy,
      rowsOfPolicy(policy, entriesOf),
      'rule',
      isThere ? null : await portsOf(world, 'firewallPolicyId', id),
    ),
  ]);
}

/** What the policies that name an address group come to with these entries of it: goes into the transaction that writes them. */
export async function withEntries(
  world: World,
  addressGroupId: string,
  entries: readonly string[],
): Promise<OvsdbOperation[]> {
  const policies = await policiesNaming(world.database.connections, { addressGroupId });
  if (policies.length === 0) return [];
  const groups = await world.northbound.transact(
    'look for firewall policies',
    policies.map(({ id }) => lookForGroup(id)),
  );
  const isThere = (_: unknown, index: number): boolean => (groups[index]?.rows?.length ?? 0) > 0;
  const written = policies.filter(isThere);
  // On its way, or gone, or to be repaired. Should it come in between, whoever meets it looks again.
  const others = policies.filter((policy, index) => !isThere(policy, index));
  const named = new Set(written.flatMap(({ rules }) => groupsIn(rules)).filter((id) => id !== addressGroupId));
  const { entriesOf, guards } = await entriesInOvn(world, [...named]);
  return [
    ...guards,
    ...others.map(({ id }) => absent('Port_Group', taggedWith('firewallPolicy', id))),
    ...written.flatMap((policy, index) => [
      // Without words of its own: whoever meets it looks again.
      present('Port_Group', taggedWith('firewallPolicy', policy.id), ''),
      ...operations(
        policy,
        rowsOfPolicy(policy, (id) => (id === addressGroupId ? entries : entriesOf(id))),
        `policy${index}x`,
        null,
      ),
    ]),
  ];
}

export async function removePolicy(world: World, id: string): Promise<void> {
  await world.northbound.transact(
    `remove firewall policy ${id}`,
    ['Port_Group', 'Meter'].map(
      (table): OvsdbOperation => ({ op: 'delete', table, where: taggedWith('firewallPolicy', id) }),
    ),
  );
}
