/** What can be asked of an operation itself: wait, cancel, retry, skip. */
import { type Client, WorkflowNotFoundError, WorkflowUpdateFailedError } from '@temporalio/client';
import { ApplicationFailure } from '@temporalio/common';
import { type Transaction as Connection, type Database, insertAll, transaction } from '../database/database.ts';
import { waitingPart, wakeDispatcher } from '../database/operations.ts';
import { requestCancel } from '../database/runs.ts';
import { from, inSeconds, isAmong, now, statement, type Values } from '../database/statement.ts';
import { actionNamed } from '../model/kinds.ts';
import { finalOperationStates } from '../model/platform/operation.ts';
import { Problem } from '../runtime/problem.ts';

const finals: readonly string[] = finalOperationStates;

interface OperationRow {
  id: string;
  type: string;
  state: string;
  /** Of a stuck one: which step asks, and the how manyth question of the operation it is. Those that got stuck long ago do not say. */
  error: { stepIndex?: number; question?: number } | null;
  pointOfNoReturnPassed: boolean;
  waitsFor: string | null;
  projectId: string | null;
  revision: number;
}

/** What is told of a dry run that would have been heard: asking by itself takes and makes nothing. */
export const planOfAsking = JSON.stringify({
  steps: [],
  pointOfNoReturn: null,
  locks: [],
  placement: null,
  quotaDelta: {},
  costDelta: null,
  waits: false,
  warnings: [],
  plan: null,
});

const lockedById = statement((p: Values<{ id: string }>) =>
  from
    .selectFrom('operation')
    .select(['id', 'type', 'state', 'error', 'pointOfNoReturnPassed', 'waitsFor', 'projectId', 'revision'])
    .where('id', '=', p.id)
    .forUpdate()
    .$narrowType<{ type: string; error: OperationRow['error'] }>(),
);

const stateOf = statement((p: Values<{ id: string }>) =>
  from.selectFrom('operation').select('state').where('id', '=', p.id),
);

const withdrawCancel = statement((p: Values<{ id: string }>) =>
  from
    .updateTable('operation')
    .set((eb) => ({ cancelRequestedAt: null, updatedAt: now, revision: eb('revision', '+', 1) }))
    .where('id', '=', p.id)
    .where('cancelRequestedAt', 'is not', null),
);

const askAgainAt = statement((p: Values<{ ids: string[]; seconds: number }>) =>
  from
    .updateTable('operation')
    .set({ dispatchAt: inSeconds(p.seconds) })
    .where((eb) => isAmong(eb.ref('id'), p.ids))
    .where('state', '=', 'queued'),
);

async function lockOperation(tx: Connection, id: string): Promise<OperationRow> {
  const [row] = await lockedById(tx, { id });
  if (!row) throw new Problem('NOT_FOUND', `there is no operation ${id}`);
  return row;
}

/** What a cancel of an operation that has ended is answered; null of one that has not. */
function problemOfEnded({ id, state }: { id: string; state: string }): Problem | null {
  if (state === 'succeeded') return new Problem('CANCEL_TOO_LATE', `operation ${id} has succeeded`);
  return finals.includes(state) ? new Problem('INVALID_STATE', `operation ${id} is ${state}`) : null;
}

export interface Asked {
  userId: string;
  apiKeyId: string;
  requestId: string;
  sourceAddress: string;
}

/** So long Temporal, and a workflow that is asked for an answer, may take. */
const answerPatienceMs = 10_000;

/**
 * Hands a cancel that was written down to the workflow, which alone knows whether it comes in time. Resolves when it was taken: then
 * the operation ends cancelled.
 *
 * @throws Problem CANCEL_TOO_LATE or INVALID_STATE when it was not; it is no longer written down then. BACKEND_UNAVAILABLE when nobody
 * answered: the dispatcher goes on asking.
 */
export async function passOnCancel(database: Database, temporal: Client, id: string): Promise<void> {
  const refusal = await askWorkflow(database, temporal, id);
  if (!refusal) return;
  await withdrawCancel(database.connections, { id });
  throw refusal;
}

async function askWorkflow(database: Database, temporal: Client, id: string): Promise<Problem | null> {
  try {
    await temporal.withDeadline(Date.now() + answerPatienceMs, () =>
      // Under one id, so that a cancel that is asked for again gets the first answer.
      temporal.workflow.getHandle(id).executeUpdate('cancel', { updateId: 'cancel' }),
    );
    return null;
  } catch (error) {
    const refused = error instanceof WorkflowUpdateFailedError ? error.cause : undefined;
    if (
      refused instanceof ApplicationFailure &&
      (refused.type === 'CANCEL_TOO_LATE' || refused.type === 'INVALID_STATE')
    )
      return new Problem(refused.type, `operation ${id}: ${refused.message}`);
    if (error instanceof WorkflowNotFoundError) {
      const [row] = await stateOf(database.connections, { id });
      if (row?.state === 'cancelled') return null;
      const ended = row && problemOfEnded({ id, ...row });
      if (ended) return ended;
    }
    throw new Problem(
      'BACKEND_UNAVAILABLE',
      `the workflow of operation ${id} does not answer; the cancel is written down and reaches it as soon as it does`,
      { retryAfterSeconds: 2 },
    );
  }
}

/**
 * Hands an answer to the workflow of an operation that is stuck, or waits for a person. Resolves when the operation goes on, and its record says so.
 *
 * @throws Problem INVALID_STATE when the question was answered meanwhile; BACKEND_UNAVAILABLE when nobody answered.
 */
async function passOnAnswer(
  temporal: Client,
  id: string,
  verb: 'retry' | 'skipStep' | 'continue',
  question: number | null,
): Promise<void> {
  const run = temporal.workflow.getHandle(id);
  const answer = { verb: verb === 'retry' ? 'retry' : 'skip', question };
  try {
    await temporal.withDeadline(Date.now() + answerPatienceMs, () =>
      verb === 'continue' ? run.executeUpdate('continue') : run.executeUpdate('answer', { args: [answer] }),
    );
  } catch (error) {
    const refused = error instanceof WorkflowUpdateFailedError ? error.cause : undefined;
    if (refused instanceof ApplicationFailure && refused.type === 'INVALID_STATE')
      throw new Problem('INVALID_STATE', `operation ${id}: ${refused.message}`);
    if (error instanceof WorkflowNotFoundError) throw new Problem('INVALID_STATE', `operation ${id} has ended`);
    throw new Problem(
      'BACKEND_UNAVAILABLE',
      `the workflow of operation ${id} does not answer; look at it, and ask again`,
      {
        retryAfterSeconds: 2,
      },
    );
  }
}

/** One whose part waits does not wait itself. */
async function refuseNotWaiting(tx: Connection, { id, state, waitsFor }: OperationRow): Promise<void> {
  if (state !== 'running' || waitsFor === null)
    throw new Problem('INVALID_STATE', `operation ${id} is ${state}, and waits for nobody`);
  const [part] = await waitingPart(tx, { id });
  if (part)
    throw new Problem('INVALID_STATE', `operation ${id} waits for its part ${part.id}: continue that one`, {
      resource: { kind: 'operation', id: part.id },
    });
}

/** Which question an answer is for. @throws Problem INVALID_STATE when there is none, or it is another step's than the caller means. */
function questionFor({ id, state, error }: OperationRow, verb: string, input: unknown): number | null {
  if (state !== 'stuck') throw new Problem('INVALID_STATE', `operation ${id} is ${state}; ${verb} needs stuck`);
  const { step } = (input ?? {}) as { step?: number };
  if (step !== undefined && step !== error?.stepIndex)
    throw new Problem('INVALID_STATE', `operation ${id} is stuck in step ${error?.stepIndex}, not in step ${step}`);
  return error?.question ?? null;
}

/**
 * Writes the request down, then tells the workflow, and resolves when it has been taken: after a cancel the operation ends cancelled,
 * after a retry or a skip it goes on. The dispatcher tells a cancel again when this server dies in between.
 */
export async function askOperation(
  database: Database,
  temporal: Client,
  id: string,
  verb: 'cancel' | 'retry' | 'continue' | 'skipStep',
  asked: Asked,
  input: unknown,
  { dryRun, ifMatch }: { dryRun: boolean; ifMatch: number | null } = { dryRun: false, ifMatch: null },
): Promise<void> {
  const heard = await transaction(database, async (tx) => {
    const operation = await lockOperation(tx, id);
    if (ifMatch !== null && ifMatch !== operation.revision)
      throw new Problem(
        'REVISION_MISMATCH',
        `operation ${id} is at revision ${operation.revision}, not ${ifMatch}; read it again`,
      );
    let question: number | null = null;
    if (verb === 'cancel') {
      const ended = problemOfEnded(operation);
      if (ended) throw ended;
      if (operation.pointOfNoReturnPassed)
        throw new Problem('CANCEL_TOO_LATE', `operation ${id} is past its point of no return and will finish`);
      if (actionNamed(operation.type)?.action.cancellable !== true && operation.state !== 'queued')
        throw new Problem('NOT_SUPPORTED', `${operation.type} can not be cancelled once it runs`);
    } else if (verb === 'continue') await refuseNotWaiting(tx, operation);
    else question = questionFor(operation, verb, input);
    if (dryRun) return null;
    if (verb === 'cancel') await requestCancel(tx, { id });
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
    return { waits: operation.state === 'queued', question };
  });
  if (!heard) return;
  const { waits, question } = heard;
  // Whatever still waits for its turn learns of its cancel when the dispatcher gives it that turn.
  if (waits) return void (await wakeDispatcher(database.connections));
  if (verb === 'cancel') await passOnCancel(database, temporal, id);
  else await passOnAnswer(temporal, id, verb, question);
}

/** When a workflow is asked for again that was asked for now. */
export const askAgainIn = (database: Database, operationIds: string[], seconds: number): Promise<unknown> =>
  askAgainAt(database.connections, { ids: operationIds, seconds });
