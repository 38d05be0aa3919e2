import { run } from '../../database/database.ts';
import type { World } from '../world.ts';
import type { OvsdbOperation, Uuid } from './northbound.ts';

/**
 * Switch ports of the living interfaces on a network, or with a security group, as far as OVN has them. A port group that has to be made
 * anew takes them in at once: a port outside the group of its network is open to everybody.
 */
export async function portsOf(world: World, column: 'networkId' | 'securityGroupIds', id: string): Promise<Uuid[]> {
  const carriers = await run<{ id: string }>(
    world.database.pool,
    `SELECT id FROM "networkInterface" WHERE ${column === 'networkId' ? '"networkId" = $1' : '"securityGroupIds" @> ARRAY[$1]::uuid[]'} AND "deletedAt" IS NULL ORDER BY id`,
    [id],
  );
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
