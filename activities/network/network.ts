import { step } from '../step.ts';
import type { World } from '../world.ts';
import { type OvsdbOperation, rowTags, set, taggedWith } from './northbound.ts';

const hex = (id: string): string => id.replaceAll('-', '');
export const switchName = (networkId: string): string => `network-${networkId}`;
/** All ports of a network: inbound is closed unless a security group opens it, outbound is open and tracked. */
export const networkGroup = (networkId: string): string => `net_${hex(networkId)}`;

/** Lookups first, because a row can not be inserted only if it is absent in one transaction. */
async function exists(world: World, table: string, networkId: string): Promise<boolean> {
  const [found] = await world.northbound.transact(`look for network ${networkId}`, [
    { op: 'select', table, where: taggedWith('network', networkId), columns: ['_uuid'] },
  ]);
  return (found?.rows?.length ?? 0) > 0;
}

const remove = (networkId: string): OvsdbOperation[] => [
  { op: 'delete', table: 'Port_Group', where: taggedWith('network', networkId) },
  { op: 'delete', table: 'Logical_Switch', where: taggedWith('network', networkId) },
];

async function make(world: World, networkId: string): Promise<void> {
  if (await exists(world, 'Logical_Switch', networkId)) return;
  const group = networkGroup(networkId);
  const acl = (name: string, direction: string, match: string, action: string): OvsdbOperation => ({
    op: 'insert',
    table: 'ACL',
    'uuid-name': name,
    row: { direction, priority: 1000, match, action, external_ids: rowTags('network', networkId) },
  });
  await world.northbound.transact(`make network ${networkId}`, [
    {
      op: 'insert',
      table: 'Logical_Switch',
      row: { name: switchName(networkId), external_ids: rowTags('network', networkId) },
    },
    acl('inbound', 'to-lport', `outport == @${group} && ip`, 'drop'),
    acl('outbound', 'from-lport', `inport == @${group} && ip`, 'allow-related'),
    {
      op: 'insert',
      table: 'Port_Group',
      row: {
        name: group,
        acls: set([
          ['named-uuid', 'inbound'],
          ['named-uuid', 'outbound'],
        ]),
        external_ids: rowTags('network', networkId),
      },
    },
  ]);
}

export const networks = (world: World) => ({
  /** The network's logical switch, and the port group that closes inbound traffic. */
  make: step({
    do: ({ networkId }: { networkId: string }) => make(world, networkId),
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
