/**
 * Whose a step's writes are. A step may come late: its worker was suspended, another has done it since, the operation has ended, and what it
 * held is somebody else's by now. So the database lets nobody but the operation that holds a resource say where that is and how large.
 */
import { type Client, type Database, type Queryable, run, transaction } from '../database/database.ts';
import { refuse } from './failure.ts';
import type { StepContext } from './step.ts';

/** From here on the transaction is that of the operation. What is being undone is not done any more. @throws INVALID_STATE */
export async function speakFor(tx: Client, { operationId, step, undo }: StepContext): Promise<void> {
  const [operation] = await run<{ state: string | null }>(
    tx,
    `SELECT set_config('belay.operation', $1::text, true), (SELECT state FROM "operation" WHERE id = $1::text::uuid) AS state`,
    [operationId],
  );
  if (operation?.state === 'rollingBack' && !undo)
    throw refuse('INVALID_STATE', `operation ${operationId} is being undone: ${step} comes too late`);
}

/** For systems that do not know whose turn it is: what has ended, or is being undone, changes nothing there any more. @throws INVALID_STATE */
export async function refuseLate(on: Queryable, { operationId, step, undo }: StepContext): Promise<void> {
  const [operation] = await run<{ state: string; ended: boolean }>(
    on,
    `SELECT state, "endedAt" IS NOT NULL AS ended FROM "operation" WHERE id = $1::uuid`,
    [operationId],
  );
  if (!operation || operation.ended || (operation.state === 'rollingBack' && !undo))
    throw refuse('INVALID_STATE', `operation ${operationId} is ${operation?.state ?? 'gone'}: ${step} comes too late`);
}

/** One transaction in the name of the operation. */
export const asHolder = <T>(database: Database, context: StepContext, body: (tx: Client) => Promise<T>): Promise<T> =>
  transaction(database, async (tx) => {
    await speakFor(tx, context);
    return body(tx);
  });
