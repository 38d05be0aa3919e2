/** What storage pools have promised, beside what lies in them. */
import type { Database } from '../database/database.ts';
import { poolPromises } from '../database/pools.ts';
import { metrics } from '../runtime/metrics.ts';

const gib = 2 ** 30;

export async function countPoolPromises(database: Database): Promise<void> {
  const pools = await poolPromises(database.connections, {});
  for (const gauge of [metrics.poolPromised, metrics.poolPromisable]) gauge.reset();
  for (const { id, type, promisedGib, promisableGib } of pools) {
    metrics.poolPromised.labels(id, type).set(promisedGib * gib);
    metrics.poolPromisable.labels(id, type).set(promisableGib * gib);
  }
}
