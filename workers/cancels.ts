/** Cancels that were written down, and are handed on to those who do not know of them yet. */
import type { Client } from '@temporalio/client';
import { passOnCancel } from '../api/operations.ts';
import { type Database, run } from '../database/database.ts';
import { Problem } from '../runtime/problem.ts';

const passOnCancels = (database: Database, temporal: Client, operations: { id: string }[]): Promise<unknown> =>
  Promise.all(
    operations.map(({ id }) =>
      passOnCancel(database, temporal, id).catch((error: unknown) => {
        if (!(error instanceof Problem)) throw error;
      }),
    ),
  );

/**
 * Who pulls the plug does not wait until a guest has been asked nicely for ten minutes: a stop that is still asking is cancelled for the
 * sake of one by force that waits behind it. One that is a part of a delete is not what the other waits for: it would only make that fail.
 */
export async function giveWayToForce(database: Database, temporal: Client): Promise<void> {
  const asking = await run<{ id: string; state: string }>(
    database.pool,
    `UPDATE "operation" soft SET "cancelRequestedAt" = now(), "updatedAt" = now(), revision = soft.revision + 1
     FROM "operation" force
     WHERE force.state = 'queued' AND force.type = 'instance.stop' AND force.input->>'mode' = 'force' AND force."cancelRequestedAt" IS NULL
       AND soft."targetId" = force."targetId" AND soft.type = 'instance.stop' AND soft.input->>'mode' <> 'force'
       AND soft.state IN ('queued', 'running') AND soft."createdAt" < force."createdAt"
       AND NOT soft."pointOfNoReturnPassed" AND soft."cancelRequestedAt" IS NULL
       AND NOT EXISTS (SELECT 1 FROM "operationLock" l WHERE l."operationId" = soft.id AND l."resourceId" = soft."targetId" AND l.within IS NOT NULL)
     RETURNING soft.id, soft.state`,
  );
  // One that has not begun learns of it at its turn.
  await passOnCancels(
    database,
    temporal,
    asking.filter(({ state }) => state === 'running'),
  );
}

/** Cancels that were written down but may not have reached their workflow. */
export async function repeatCancels(database: Database, temporal: Client): Promise<void> {
  const rows = await run<{ id: string }>(
    database.pool,
    `SELECT id FROM "operation" WHERE state = 'running' AND "cancelRequestedAt" < now() - interval '5 seconds' AND NOT "pointOfNoReturnPassed" LIMIT 100`,
  );
  await passOnCancels(database, temporal, rows);
}
