import { carriersOfGroup } from '../../database/networks.ts';
import { from, statement, type Values } from '../../database/statement.ts';
import type { World } from '../world.ts';
import type { OvsdbOperation, Uuid } from './northbound.ts';

const carriersOnNetwork = statement((p: Values<{ id: string }>) =>
  from
    .selectFrom('networkInterface')
    .select('id')
    .where('networkId', '=', p.id)
    .where('deletedAt', 'is', null)
    .orderBy('id'),
);

/**
 * Switch ports of the living interfaces on a network, or with a security group, as far as OVN has them. A port group that has to be made
 * anew takes them in at once: a port outside the group of its network is open to everybody.
 */
export async function portsOf(world: World, column: 'networkId' | 'securityGroupIds', id: string): Promise<Uuid[]> {
  const carriers = await (column === 'networkId' ? carriersOnNetwork : carriersOfGroup)(world.database.connections, {
    id,
  });
  if (carriers.length === 0) return [];
  const results = await world.northbound.transact(
    `look for ports of ${id}`,
    carriers.map(
      (carrier): OvsdbOperation => ({
        op: 'select',
        table: 'Logical_Switch_Port',
        where: [['name', '==', carrier.id]],
        columns: ['_uuid'],
      }),
    ),
  );
  return results.flatMap(({ rows }) => (rows ?? []).map(({ _uuid }) => _uuid as Uuid));
}
