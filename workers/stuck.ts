/** Operations that are stuck because a host did not answer. */
import type { Client } from '@temporalio/client';
import { systemCaller } from '../acceptance/caller.ts';
import { askOperation } from '../api/operations.ts';
import { type Database, run } from '../database/database.ts';
import { Problem } from '../runtime/problem.ts';

/** They go on by themselves when the host answers again, or is dead: then nothing has to be done on it. */
export async function retryWhereHostsAnswer(database: Database, temporal: Client): Promise<void> {
  const rows = await run<{ id: string }>(
    database.pool,
    `SELECT o.id FROM "operation" o WHERE o.state = 'stuck' AND o.error->>'code' = 'HOST_UNREACHABLE' AND o."updatedAt" < now() - interval '5 seconds'
       AND NOT EXISTS (
         SELECT 1 FROM "operationLock" l JOIN "hostClaim" c ON c."instanceId" = l."resourceId" JOIN "host" h ON h.id = c."hostId"
         WHERE l."operationId" = o.id AND h.connection = 'disconnected' AND h."deadAt" IS NULL) LIMIT 100`,
  );
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
