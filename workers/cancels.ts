/** Cancels that were written down, and are handed on to those who do not know of them yet. */
import type { Client } from '@temporalio/client';
import { passOnCancel } from '../api/operations.ts';
import type { Database } from '../database/database.ts';
import { giveWayToForced } from '../database/operations.ts';
import { from, secondsAgo, statement } from '../database/statement.ts';
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
  const asking = await giveWayToForced(database.connections);
  // One that has not begun learns of it at its turn.
  await passOnCancels(
    database,
    temporal,
    asking.filter(({ state }) => state === 'running'),
  );
}

const unheard = statement(() =>
  from
    .selectFrom('operation')
    .select('id')
    .where('state', '=', 'running')
    .where('cancelRequestedAt', '<', secondsAgo(5))
    .where('pointOfNoReturnPassed', '=', false)
    .limit(100),
);

/** Cancels that were written down but may not have reached their workflow. */
export async function repeatCancels(database: Database, temporal: Client): Promise<void> {
  const rows = await unheard(database.connections);
  await passOnCancels(database, temporal, rows);
}
