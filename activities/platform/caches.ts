/** Copies of images that are of no use any more go before their room is needed. */
import { acceptOwn } from '../../acceptance/own.ts';
import type { Database } from '../../database/database.ts';
import { poolsWithUnused } from '../../database/imageCopies.ts';
import type { StartOperation } from '../../model/platform/operation.ts';

/** What `storagePool.cleanCache` takes for unused, unless it is told otherwise. */
const unusedForSeconds = 86_400;

export async function cleanCaches(database: Database): Promise<{ begun: StartOperation[] }> {
  const begun: StartOperation[] = [];
  for (const { id } of await poolsWithUnused(database.connections, { unusedForSeconds })) {
    const outcome = await acceptOwn(database, 'storagePool', 'cleanCache', id, 'unused', { leftToDispatcher: false });
    if (outcome?.start) begun.push(outcome.start);
  }
  return { begun };
}
