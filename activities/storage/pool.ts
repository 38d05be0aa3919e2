import { run } from '../../database/database.ts';
import type { PoolAddress } from '../../host-agent/protocol.ts';
import { refuse } from '../failure.ts';
import type { World } from '../world.ts';

/** Where a pool is, as agents are told. */
export async function poolAddress(world: World, poolId: string | null): Promise<PoolAddress> {
  if (!poolId) throw refuse('INVALID_STATE', 'the volume is in no pool');
  const [pool] = await run<PoolAddress>(
    world.database.pool,
    `SELECT "storageClusterId", pool FROM "storagePool" WHERE id = $1`,
    [poolId],
  );
  if (!pool) throw refuse('NOT_FOUND', `storage pool ${poolId} is gone`);
  return { storageClusterId: pool.storageClusterId, pool: pool.pool };
}
