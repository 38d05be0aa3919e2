/** What the last look at a pool has told. */
import { maintenance } from '../../model/platform/maintenance.ts';
import { metrics } from '../../runtime/metrics.ts';
import type { Pool } from './drivers/driver.ts';

type Room = { totalBytes: number; usedBytes: number };

/** Another worker may look next time: what this one has seen does not stand for ever. */
const toldMs = 3 * maintenance.scanPools.everySeconds * 1_000;
const forgetting = new Map<string, NodeJS.Timeout>();

/** Null: it could not be looked at. */
export function tell({ id, type }: Pick<Pool, 'id' | 'type'>, room: Room | null): void {
  const labels = [id, type];
  clearTimeout(forgetting.get(id));
  metrics.poolUp.labels(...labels).set(room ? 1 : 0);
  if (room) {
    metrics.poolTotal.labels(...labels).set(room.totalBytes);
    metrics.poolUsed.labels(...labels).set(room.usedBytes);
  }
  const forget = (): void => {
    for (const gauge of [metrics.poolUp, metrics.poolTotal, metrics.poolUsed]) gauge.remove(...labels);
    forgetting.delete(id);
  };
  forgetting.set(id, setTimeout(forget, toldMs).unref());
}

/** A look at a pool, whose outcome is told. */
export async function telling<Result extends Room>(pool: Pool, looking: Promise<Result>): Promise<Result> {
  try {
    const found = await looking;
    tell(pool, found);
    return found;
  } catch (error) {
    tell(pool, null);
    throw error;
  }
}
