/** Where hosts leave their heartbeats, as the records say. */
import type { Queryable } from './database.ts';
import { from, statement, type Values } from './statement.ts';

/** As agents are told it. */
type Place = { type: 'rbd'; storageClusterId: string; pool: string } | { type: 'file'; poolId: string };

const sharedPools = statement((p: Values<{ hostId: string }>) =>
  from
    .selectFrom('storagePool as p')
    .innerJoin('host as h', (join) => join.on((eb) => eb('h.clusterId', '=', eb.fn.any('p.clusterIds'))))
    .select(['p.id', 'p.type', 'p.storageClusterId', 'p.pool'])
    .where('h.id', '=', p.hostId)
    // What lies on the disks of one host no other one sees.
    .where('p.type', '!=', 'local')
    .where('p.capacity', 'is not', null)
    .where('p.deletedAt', 'is', null)
    .orderBy('p.createdAt')
    .orderBy('p.id'),
);

const mostPlaces = 16;

/** The oldest pool in each storage cluster that a host reaches, and each pool of files. All hosts of a cluster have the same. */
export async function heartbeatPlaces(on: Queryable, hostId: string): Promise<Place[]> {
  const places = new Map<string, Place>();
  for (const { id, storageClusterId, pool } of await sharedPools(on, { hostId })) {
    if (storageClusterId === null || pool === null) places.set(id, { type: 'file', poolId: id });
    else if (!places.has(storageClusterId)) places.set(storageClusterId, { type: 'rbd', storageClusterId, pool });
  }
  return [...places.values()].slice(0, mostPlaces);
}
