import { step } from '../step.ts';
import type { World } from '../world.ts';
import {
  absent,
  type OvsdbOperation,
  type OvsdbResult,
  type OvsdbRow,
  rowTags,
  set,
  taggedWith,
} from './northbound.ts';

const hex = (id: string): string => id.replaceAll('-', '');
export const switchName = (networkId: string): string => `network-${networkId}`;
/** All ports of a network: inbound is closed unless a security group opens it, outbound is open and tracked. */
export const networkGroup = (networkId: string): string => `net_${hex(networkId)}`;

const remove = (networkId: string): OvsdbOperation[] => [
  { op: 'delete', table: 'Port_Group', where: taggedWith('network', networkId) },
  { op: 'delete', table: 'Logical_Switch', where: taggedWith('network', networkId) },
];

/** Writes all rows of a network, whether they are there or not; ports that hang on them stay. */
async function write(world: World, networkId: string): Promise<void> {
  const where = taggedWith('network', networkId);
  const columns = ['_uuid'];
  const [switches, groups] = await world.northbound.transact(`look for network ${networkId}`, [
    { op: 'select', table: 'Logical_Switch', where, columns },
    { op: 'select', table: 'Port_Group', where, columns },
  ]);
  const group = networkGroup(networkId);
  const external_ids = rowTags('network', networkId);
  const acl = (name: string, direction: string, match: string, action: string): OvsdbOperation => ({
    op: 'insert',
    table: 'ACL',
    'uuid-name': name,
    row: { direction, priority: 1000, match, action, external_ids },
  });
  const acls = set([
    ['named-uuid', 'inbound'],
    ['named-uuid', 'outbound'],
  ]);
  const put = (table: string, found: OvsdbResult | undefined, row: OvsdbRow): OvsdbOperation[] =>
    (found?.rows?.length ?? 0) > 0
      ? [{ op: 'update', table, where, row }]
      : [absent(table, where), { op: 'insert', table, row: { ...row, external_ids } }];
  await world.northbound.transact(`make network ${networkId}`, [
    ...put('Logical_Switch', switches, { name: switchName(networkId) }),
    acl('inbound', 'to-lport', `outport == @${group} && ip`, 'drop'),
    acl('outbound', 'from-lport', `inport == @${group} && ip`, 'allow-related'),
    ...put('Port_Group', groups, { name: group, acls }),
  ]);
}

export const networks = (world: World) => ({
  /** The network's logical switch, and the port group that closes inbound traffic. */
  make: step({
    do: ({ networkId }: { networkId: string }) => write(world, networkId),
    async undo({ networkId }) {
      await world.northbound.transact(`remove network ${networkId}`, remove(networkId));
    },
  }),
  remove: step({
    async do({ networkId }: { networkId: string }) {
      await world.northbound.transact(`remove network ${networkId}`, remove(networkId));
    },
  }),
});
