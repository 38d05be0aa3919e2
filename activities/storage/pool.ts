import { poolRow } from '../../database/pools.ts';
import { refuse } from '../failure.ts';
import type { World } from '../world.ts';
import type { Pool } from './drivers/driver.ts';

/** @throws INVALID_STATE for a volume that is in none yet, NOT_FOUND where there is none */
export async function poolOf(world: World, poolId: string | null): Promise<Pool> {
  if (!poolId) throw refuse('INVALID_STATE', 'the volume is in no pool');
  const [row] = await poolRow(world.database.connections, { id: poolId });
  if (!row) throw refuse('NOT_FOUND', `storage pool ${poolId} is gone`);
  return row.pool as Pool;
}
