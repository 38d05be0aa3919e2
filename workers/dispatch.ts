/** Starts operations whose turn has come, whoever accepted them. */
import { type Client, WorkflowNotFoundError } from '@temporalio/client';
import { askAgainIn } from '../api/operations.ts';
import { type Database, listenTo } from '../database/database.ts';
import { type ReadyOperation, readyOperations, startOfReady, targetNames } from '../database/queue.ts';
import { from, statement } from '../database/statement.ts';
import type { Log } from '../runtime/log.ts';
import { metrics } from '../runtime/metrics.ts';
import { startOperation } from '../temporal/start-operation.ts';

const waitingAndStuck = statement(() =>
  from
    .selectFrom('operation')
    .select((eb) => [
      eb.fn.countAll<string>().filterWhere('state', '=', 'queued').as('queued'),
      eb.fn.countAll<string>().filterWhere('state', '=', 'stuck').as('stuck'),
      eb.fn.countAll<string>().filterWhere('waitsFor', 'is not', null).as('waiting'),
    ])
    .where('state', 'in', ['queued', 'running', 'stuck']),
);

/** Seconds until an operation that Temporal has taken is started again. Temporal keeps what it has taken, so this matters only if it loses data. */
const trustSeconds = 60;
/** Seconds until an operation is started again that Temporal did not take. */
const retrySeconds = 2;

/** A child is begun by the run of its parent, which waits for its turn. Answers false of what has no parent, or none that runs any more. */
async function tellParent(temporal: Client, { id, parentOperationId }: ReadyOperation): Promise<boolean> {
  if (parentOperationId === null) return false;
  try {
    await temporal.workflow.getHandle(parentOperationId).signal('turn', id);
    return true;
  } catch (error) {
    if (error instanceof WorkflowNotFoundError) return false;
    throw error;
  }
}

/** Answers whether there may be more whose turn it is. */
export async function dispatch(database: Database, temporal: Client, log: Log): Promise<boolean> {
  const { operations: ready, more } = await readyOperations(database);
  const names = await targetNames(database, ready);
  const taken: string[] = [];
  const refused: string[] = [];
  await Promise.all(
    ready.map(async (operation) => {
      try {
        if (!(await tellParent(temporal, operation))) await startOperation(temporal, startOfReady(operation, names));
        taken.push(operation.id);
      } catch (error) {
        refused.push(operation.id);
        log.warn(
          { operationId: operation.id, error: error instanceof Error ? error.message : String(error) },
          'Temporal did not take the operation; trying again',
        );
      }
    }),
  );
  if (taken.length > 0) await askAgainIn(database, taken, trustSeconds);
  if (refused.length > 0) await askAgainIn(database, refused, retrySeconds);
  const [counts] = await waitingAndStuck(database.connections);
  metrics.queueDepth.set(Number(counts?.queued ?? 0));
  metrics.stuck.set(Number(counts?.stuck ?? 0));
  metrics.waiting.set(Number(counts?.waiting ?? 0));
  return more;
}

/** Calls `wake` at every release of a lock and every acceptance that waits, until `stop` resolves. */
export async function listen(database: Database, stop: Promise<void>, wake: () => void): Promise<void> {
  let stopping = false;
  void stop.then(() => {
    stopping = true;
  });
  while (!stopping) {
    const client = database.connection();
    try {
      await client.connect();
      await listenTo(client, 'belay_queue');
      client.on('notification', wake);
      await new Promise<void>((resolve) => {
        client.once('end', resolve);
        client.once('error', () => resolve());
        void stop.then(resolve);
      });
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 1_000));
    } finally {
      await client.end().catch(() => {});
    }
  }
}
