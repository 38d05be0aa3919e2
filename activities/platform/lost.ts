/** Instances of failed hosts that have no place yet. */
import { acceptOwn } from '../../acceptance/own.ts';
import type { Database } from '../../database/database.ts';
import { countLost, lostOnes } from '../../database/fence.ts';
import { maintenance } from '../../model/platform/maintenance.ts';
import type { StartOperation } from '../../model/platform/operation.ts';
import { metrics } from '../../runtime/metrics.ts';

/** Another worker may look next time: what this one has seen does not stand for ever. */
const toldMs = 4 * maintenance.restartLost.everySeconds * 1_000;
let forgetting: NodeJS.Timeout | undefined;

function tell(lost: number): void {
  clearTimeout(forgetting);
  metrics.instancesLost.set(lost);
  forgetting = setTimeout(() => metrics.instancesLost.set(0), toldMs).unref();
}

/** Begins what brings them on, those with the highest priority first. For whom there is no room, has a turn another time. */
export async function restartLost(database: Database): Promise<{ begun: StartOperation[] }> {
  const begun: StartOperation[] = [];
  for (const { id, by } of await lostOnes(database.connections, {})) {
    const [, verb = ''] = by.split('.');
    const outcome = await acceptOwn(database, 'instance', verb, id, 'host-failed', { leftToDispatcher: false });
    if (outcome?.start) begun.push(outcome.start);
  }
  const [count] = await countLost(database.connections, {});
  tell(Number(count?.lost ?? 0));
  return { begun };
}
