import { run } from '../../database/database.ts';
import { refuse } from '../failure.ts';
import type { World } from '../world.ts';
import type { Pool } from './drivers/driver.ts';

/** A pool as its driver is told of it, in the SQL of a query that calls it `p`. */
export const poolColumn = `row_to_json(p)`;

/** @throws INVALID_STATE for a volume that is in none yet, NOT_FOUND where there is none */
export async function poolOf(world: World, poolId: string | null): Promise<Pool> {
  if (!poolId) throw refuse('INVALID_STATE', 'the volume is in no pool');
  const [row] = await run<{ pool: Pool }>(
    world.database.pool,
    `SELECT ${poolColumn} AS pool FROM "storagePool" p WHERE p.id = $1`,
    [poolId],
  );
  if (!row) throw refuse('NOT_FOUND', `storage pool ${poolId} is gone`);
  return row.pool;
}
