/** Operations that are stuck because a host did not answer. */
import type { Client } from '@temporalio/client';
import { systemCaller } from '../acceptance/caller.ts';
import { askOperation } from '../api/operations.ts';
import type { Database } from '../database/database.ts';
import { stuckWhereHostsAnswer } from '../database/operations.ts';
import { Problem } from '../runtime/problem.ts';

/** They go on by themselves when the host answers again, or is dead: then nothing has to be done on it. */
export async function retryWhereHostsAnswer(database: Database, temporal: Client): Promise<void> {
  const rows = await stuckWhereHostsAnswer(database.connections);
  const { userId, apiKeyId } = systemCaller();
  for (const { id } of rows)
    await askOperation(
      database,
      temporal,
      id,
      'retry',
      { userId, apiKeyId, requestId: 'host-answers', sourceAddress: 'system' },
      {},
    ).catch((error: unknown) => {
      if (!(error instanceof Problem)) throw error;
    });
}
