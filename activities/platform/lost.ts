/** Instances of failed hosts that have no place yet. */
import { acceptOwn } from '../../acceptance/own.ts';
import type { Database } from '../../database/database.ts';
import { lostOnes } from '../../database/fence.ts';
import type { StartOperation } from '../../model/platform/operation.ts';

/** Begins what brings them on, those with the highest priority first. For whom there is no room, has a turn another time. */
export async function restartLost(database: Database): Promise<{ begun: StartOperation[] }> {
  const begun: StartOperation[] = [];
  for (const { id, by } of await lostOnes(database.pool, {})) {
    const [, verb = ''] = by.split('.');
    const outcome = await acceptOwn(database, 'instance', verb, id, 'host-failed', { leftToDispatcher: false });
    if (outcome?.start) begun.push(outcome.start);
  }
  return { begun };
}
