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

const carriersOnNetworksOf = statement((p: Values<{ id: string }>) =>
  from
    .selectFrom('networkInterface as n')
    .innerJoin('network as k', 'k.id', 'n.networkId')
    .select('n.id')
    .where('k.firewallPolicyId', '=', p.id)
    .where('n.deletedAt', 'is', null)
    .orderBy('n.id'),
);

const carriers = {
  networkId: carriersOnNetwork,
  securityGroupIds: carriersOfGroup,
  firewallPolicyId: carriersOnNetworksOf,
};

/**
 * Switch ports of the living interfaces on a network, on those that carry a firewall policy, or with a security group, as far as OVN has them. A port group that has to be made
 * anew takes them in at once: a port outside the group of its network is open to everybody.
 */
export async function portsOf(world: World, column: keyof typeof carriers, id: string): Promise<Uuid[]> {
  const interfaces = await carriers[column](world.database.connections, { id });
  if (interfaces.length === 0) return [];
  const results = await world.northbound.transact(
    `look for ports of ${id}`,
    interfaces.map(
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
