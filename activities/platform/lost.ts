/** Instances of failed hosts that have no place yet. */
import { acceptOwn } from '../../acceptance/own.ts';
import type { Database } from '../../database/database.ts';
import { countLost, lostAtOnce, lostOnes } from '../../database/fence.ts';
import { firstId } from '../../database/wellKnown.ts';
import { maintenance } from '../../model/platform/maintenance.ts';
import type { StartOperation } from '../../model/platform/operation.ts';
import { metrics, toldFor } from '../../runtime/metrics.ts';

/** No instance has a higher priority. */
const first = { priority: 2 ** 31 - 1, after: firstId };

/** What has begun is told before the step is taken for one that hangs. */
const mostMs = 30_000;
/** Where this worker goes on: at the first, or behind those for which the time before sufficed. */
let next = first;

const tell = toldFor(metrics.instancesLost, 4 * maintenance.restartLost.everySeconds * 1_000);

/**
 * Begins what brings them on, those with the highest priority first. For whom there is no room, has a turn another time, and keeps none behind it from
 * theirs, however many there are: where the time does not suffice for all, the next time goes on behind them.
 */
export async function restartLost(database: Database): Promise<{ begun: StartOperation[] }> {
  const begun: StartOperation[] = [];
  let page: Awaited<ReturnType<typeof lostOnes>>;
  let behind = next;
  next = first;
  const until = performance.now() + mostMs;
  do {
    page = await lostOnes(database.connections, behind);
    for (const { id, by, priority } of page) {
      if (performance.now() > until) {
        next = behind;
        break;
      }
      const [, verb = ''] = by.split('.');
      const outcome = await acceptOwn(database, 'instance', verb, id, 'host-failed', { leftToDispatcher: false });
      if (outcome?.start) begun.push(outcome.start);
      behind = { priority, after: id };
    }
  } while (page.length === lostAtOnce && begun.length < lostAtOnce && next === first);
  const [count] = await countLost(database.connections, {});
  tell(Number(count?.lost ?? 0));
  return { begun };
}
