/** What can be asked of an operation itself: wait, cancel, retry, skip. */
import type { Client } from '@temporalio/client';
import { type Database, insertAll, run, transaction } from '../database/database.ts';
import { kindOf } from '../model/kinds.ts';
import { finalOperationStates } from '../model/platform/operation.ts';
import { Problem } from '../runtime/problem.ts';

const finals: readonly string[] = finalOperationStates;

interface OperationRow {
  id: string;
  type: string;
  state: string;
  pointOfNoReturnPassed: boolean;
  projectId: string | null;
}

async function lockOperation(tx: Parameters<Parameters<typeof transaction>[1]>[0], id: string): Promise<OperationRow> {
  const [row] = await run<OperationRow>(
    tx,
    `SELECT id, type, state, "pointOfNoReturnPassed", "projectId" FROM "operation" WHERE id = $1 FOR UPDATE`,
    [id],
  );
  if (!row) throw new Problem('NOT_FOUND', `there is no operation ${id}`);
  return row;
}

export interface Asked {
  userId: string;
  apiKeyId: string;
  requestId: string;
  sourceAddress: string;
}

/** Writes the request down, then tells the workflow; the dispatcher tells it again when this server dies in between. */
export async function askOperation(
  database: Database,
  temporal: Client,
  id: string,
  verb: 'cancel' | 'retry' | 'skipStep',
  asked: Asked,
  input: unknown,
): Promise<void> {
  const waits = await transaction(database, async (tx) => {
    const operation = await lockOperation(tx, id);
    const [kindName = '', action = ''] = operation.type.split('.');
    if (verb === 'cancel') {
      if (finals.includes(operation.state)) throw new Problem('INVALID_STATE', `operation ${id} is ${operation.state}`);
      if (operation.pointOfNoReturnPassed)
        throw new Problem('CANCEL_TOO_LATE', `operation ${id} is past its point of no return and will finish`);
      if (kindOf(kindName).actions[action]?.cancellable !== true && operation.state !== 'queued')
        throw new Problem('NOT_SUPPORTED', `${operation.type} can not be cancelled once it runs`);
      await run(
        tx,
        `UPDATE "operation" SET "cancelRequestedAt" = coalesce("cancelRequestedAt", now()), "updatedAt" = now(), revision = revision + 1 WHERE id = $1`,
        [id],
      );
    } else if (operation.state !== 'stuck')
      throw new Problem('INVALID_STATE', `operation ${id} is ${operation.state}; ${verb} needs stuck`);
    await insertAll(tx, {
      auditEntry: [
        {
          id: crypto.randomUUID(),
          projectId: operation.projectId,
          actorUserId: asked.userId,
          actorApiKeyId: asked.apiKeyId,
          sourceAddress: asked.sourceAddress,
          permission: `operation.${verb}`,
          resourceKind: 'operation',
          resourceId: id,
          input,
          outcome: 'allowed',
          operationId: id,
          requestId: asked.requestId,
        },
      ],
    });
    return operation.state === 'queued';
  });
  // Whatever still waits for its turn learns of its cancel when the dispatcher gives it that turn.
  if (waits) return void (await database.pool.query(`SELECT pg_notify('belay_queue', '')`));
  await temporal.workflow.getHandle(id).signal(verb);
}

/** Answers when the operation has ended or the time is over, at most a tenth later than that. */
export async function waitForEnd(database: Database, id: string, seconds: number, signal: AbortSignal): Promise<void> {
  const until = Date.now() + seconds * 1000;
  const since = Date.now();
  while (Date.now() < until && !signal.aborted) {
    const [row] = await run<{ state: string }>(database.pool, `SELECT state FROM "operation" WHERE id = $1`, [id]);
    if (!row || finals.includes(row.state) || row.state === 'stuck') return;
    const pause = Math.min(250, Math.max(10, (Date.now() - since) / 10));
    await new Promise((resolve) => setTimeout(resolve, Math.min(pause, until - Date.now())));
  }
}
