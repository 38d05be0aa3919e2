/** The record of an operation while it is under way, and of what it holds. */
import type { Kind, LockMode } from '../model/kind.ts';
import { allKinds } from '../model/kinds.ts';
import { type Queryable, statementName } from './database.ts';
import { toldColumns } from './events.ts';
import { heldKinds } from './old.ts';
import { from, now, prepared, statement, type Values, written, writtenOfKind } from './statement.ts';

/** What an operation holds of one resource. */
export interface LockRow {
  resourceKind: string;
  resourceId: string;
  mode: LockMode;
  entered: boolean;
  fromStates: string[];
  conditions: unknown[];
  viaState: string | null;
  fromState: string | null;
  toState: string | null;
  /** The operation above that holds it, whose it is again afterwards. */
  within: string | null;
}

export interface RunningRow {
  id: string;
  type: string;
  state: string;
  targetKind: string;
  targetId: string;
  projectId: string | null;
  actorUserId: string | null;
  actorApiKeyId: string | null;
  cancelRequestedAt: Date | null;
  requestId: string | null;
  parentOperationId: string | null;
  waitsFor: string | null;
  createdAt: Date;
  /** In the order in which it asked. */
  held: LockRow[];
}

export const lockRunning = written<RunningRow, { id: string }>(
  `SELECT id, type, state, "targetKind", "targetId", "projectId", "actorUserId", "actorApiKeyId", "cancelRequestedAt", "requestId", "parentOperationId", "waitsFor", "createdAt",
     (SELECT coalesce(json_agg(json_build_object('resourceKind', l."resourceKind", 'resourceId', l."resourceId", 'mode', l.mode, 'entered', l.entered,
         'fromStates', l."fromStates", 'conditions', l.conditions, 'viaState', l."viaState", 'fromState', l."fromState", 'toState', l."toState", 'within', l.within) ORDER BY l.ticket), '[]')
       FROM "operationLock" l WHERE l."operationId" = "operation".id) AS held
   FROM "operation" WHERE id = $id FOR UPDATE`,
);

const running = `state = 'running', "startedAt" = coalesce("startedAt", now()), "updatedAt" = now(), revision = revision + 1`;

/** Answers a row for one that has entered all it holds, as what was first in line when it was accepted has: nothing could change since. */
export const beginEntered = written<{ createdAt: Date }, { id: string }>(
  `UPDATE "operation" SET ${running} WHERE id = $id AND state = 'queued' AND "cancelRequestedAt" IS NULL
     AND NOT EXISTS (SELECT 1 FROM "operationLock" WHERE "operationId" = $id AND NOT entered) RETURNING "createdAt"`,
);
export const beginRunning = written<never, { id: string }>(`UPDATE "operation" SET ${running} WHERE id = $id`);

export const resourceRow = writtenOfKind<{ row: Record<string, unknown> }, { id: string }>(
  allKinds,
  ({ name }) => `SELECT row_to_json(t) AS row FROM "${name}" t WHERE id = $id`,
);
export const lockResourceRow = writtenOfKind<{ row: Record<string, unknown> }, { id: string }>(
  allKinds,
  ({ name }) => `SELECT row_to_json(t) AS row FROM "${name}" t WHERE id = $id FOR UPDATE`,
);

interface OfLock {
  operationId: string;
  kind: string;
  id: string;
}

export const enterLock = statement((p: Values<OfLock & { fromState: string | null }>) =>
  from
    .updateTable('operationLock')
    .set({ entered: true, fromState: p.fromState })
    .where('operationId', '=', p.operationId)
    .where('resourceKind', '=', p.kind)
    .where('resourceId', '=', p.id),
);

const held = `"currentOperationId" = $operationId, revision = revision + 1, "updatedAt" = now() WHERE id = $id`;
export const holdResource = writtenOfKind<never, { id: string; operationId: string }>(
  heldKinds,
  ({ name }) => `UPDATE "${name}" SET ${held}`,
);
/** In the state that says who holds it. */
export const holdResourceIn = writtenOfKind<never, { id: string; operationId: string; state: string }>(
  heldKinds.filter(({ states }) => states),
  ({ name }) => `UPDATE "${name}" SET state = $state, ${held}`,
);

/** What the operation is about shows a fault, or none any more. */
export const setFault = writtenOfKind<never, { id: string; operationId: string; fault: string | null }>(
  heldKinds,
  ({ name }) =>
    `UPDATE "${name}" SET fault = $fault::jsonb, "updatedAt" = now(), revision = revision + 1 WHERE id = $id AND "currentOperationId" = $operationId`,
);

export const resultOf = statement((p: Values<{ id: string }>) =>
  from.selectFrom('operation').select(['result', 'error']).where('id', '=', p.id),
);

/** The error at the step of the operation above by which it began this one. */
export const setStepError = written<never, { id: string; error: string | null }>(
  `UPDATE "operation" parent SET "updatedAt" = now(), revision = parent.revision + 1, steps = (
     SELECT jsonb_agg(CASE WHEN step ->> 'operationId' = $id::text THEN step || jsonb_build_object('error', $error::jsonb) ELSE step END ORDER BY place)
     FROM jsonb_array_elements(parent.steps) WITH ORDINALITY AS one (step, place))
   FROM "operation" child WHERE child.id = $id::uuid AND parent.id = child."parentOperationId" AND parent."endedAt" IS NULL
     AND jsonb_array_length(parent.steps) > 0`,
);

/** The saga's list of steps, with the attempts that workers have told: a workflow does not see them. */
const stepsWithAttempts = `belay_merge_steps($steps::jsonb, (
     SELECT coalesce(jsonb_agg(jsonb_build_object('index', told->'index', 'attempts', told->'attempts')), '[]')
     FROM jsonb_array_elements("operation".steps) told
     WHERE told ? 'attempts' AND (told->>'index')::int < jsonb_array_length($steps::jsonb)))`;

/** `steps` and `problem` are JSON. */
interface Told {
  id: string;
  steps: string;
  problem: string;
}

export const beginRollback = written<{ type: string }, Told>(
  `UPDATE "operation" SET state = 'rollingBack', steps = ${stepsWithAttempts}, error = $problem::jsonb, "updatedAt" = now(), revision = revision + 1
   WHERE id = $id AND "endedAt" IS NULL RETURNING type`,
);

/** A question that was asked before, and may be answered by now, is not asked again by a try that comes late. */
export const askPerson = written<unknown, Told & { question: number | null }>(
  `UPDATE "operation" SET state = 'stuck', steps = ${stepsWithAttempts}, error = $problem::jsonb, "updatedAt" = now(), revision = revision + 1
   WHERE id = $id AND "endedAt" IS NULL AND coalesce((error->>'question')::int, 0) < coalesce($question, 2147483647)
   RETURNING 1, pg_notify('belay_ended', '')`,
);

/** Answers a row when the question that it asks is the one that was answered. */
export const goOn = written<unknown, { id: string; state: string; question: number | null }>(
  `UPDATE "operation" SET state = $state, "updatedAt" = now(), revision = revision + 1
   WHERE id = $id AND state = 'stuck' AND coalesce((error->>'question')::int = $question, TRUE) RETURNING 1`,
);

/** `steps` is JSON. */
export const tellSteps = written<never, { id: string; steps: string }>(
  `UPDATE "operation" SET steps = belay_merge_steps(steps, $steps::jsonb), "updatedAt" = now() WHERE id = $id AND "endedAt" IS NULL`,
);

export const waitsInLine = written<{ waits: boolean }, { id: string }>(
  `SELECT EXISTS (SELECT 1 FROM "operationLock" WHERE "operationId" = $id AND NOT entered) AS waits`,
);

export const requestCancel = statement((p: Values<{ id: string }>) =>
  from
    .updateTable('operation')
    .set((eb) => ({
      cancelRequestedAt: eb.fn.coalesce('cancelRequestedAt', now),
      updatedAt: now,
      revision: eb('revision', '+', 1),
    }))
    .where('id', '=', p.id)
    .where('pointOfNoReturnPassed', '=', false),
);

/** How an operation leaves a resource. */
export interface Released {
  id: string;
  /** Null leaves it as it is. */
  state: string | null;
  within: string | null;
  dies: boolean;
}

const leaving = (kinds: readonly Kind[]): string => {
  const updates = kinds.map(
    ({ name, states }, index) => `
       left${index} AS (UPDATE "${name}" t SET ${states ? 'state = coalesce(e.state, t.state),' : ''} "currentOperationId" = CASE WHEN NOT e.dies THEN e.within END,
         fault = (SELECT o.error || jsonb_build_object('operationId', o.id) FROM "operation" o
           WHERE o.id = e.within AND o.state = 'stuck' AND o."targetId" = t.id AND NOT e.dies),
         revision = t.revision + 1, "updatedAt" = now(), "deletedAt" = CASE WHEN e.dies THEN now() ELSE t."deletedAt" END
         FROM json_to_recordset($${index + 2}::json) AS e(id uuid, state text, dies boolean, within uuid) WHERE t.id = e.id AND t."currentOperationId" = $1),`,
  );
  return `WITH ${updates.join('')}
       unfenced AS (DELETE FROM "stepFence" WHERE "operationId" = $1),
       gone AS (DELETE FROM "operationLock" WHERE "operationId" = $1 RETURNING "resourceKind", "resourceId", mode)
     SELECT pg_notify('belay_queue', '') WHERE EXISTS (
       SELECT 1 FROM gone JOIN "operationLock" waiting USING ("resourceKind", "resourceId")
       WHERE waiting."operationId" <> $1 AND waiting.mode <> 'S' AND (gone.mode <> 'S' OR waiting.mode = 'D'))
     OR EXISTS (
       SELECT 1 FROM gone JOIN "operationLock" waiting USING ("resourceKind", "resourceId") WHERE waiting."operationId" <> $1 AND gone.mode = 'D')`;
};

/**
 * Ends what an operation held, and wakes the dispatcher when another one waits for any of it. What is handed back shows the fault of whose it is again. One statement, whose text depends on which kinds
 * there are alone.
 */
export async function releaseAll(
  on: Queryable,
  operationId: string,
  left: ReadonlyMap<Kind, Released[]>,
): Promise<void> {
  const text = leaving([...left.keys()]);
  const values = [operationId, ...[...left.values()].map((rows) => JSON.stringify(rows))];
  await on.query({ name: statementName(text), text, values });
}
prepared(() => [leaving([]), ...heldKinds.map((kind) => leaving([kind])), leaving(heldKinds)]);

/** How an operation ended: `steps`, `error` and `result` are JSON. */
interface End {
  id: string;
  state: 'succeeded' | 'failed' | 'cancelled';
  steps: string;
  error: string | null;
  result: string | null;
  targetId: string;
}

/** Answers what clients are told of its target then. */
export const endRunning = writtenOfKind<{ target: unknown }, End>(
  allKinds,
  (
    kind,
  ) => `UPDATE "operation" SET state = $state, steps = ${stepsWithAttempts}, error = $error::jsonb, result = $result::jsonb, "waitsFor" = NULL,
       progress = CASE WHEN $state = 'succeeded' THEN 100 ELSE progress END, "endedAt" = now(), "updatedAt" = now(), revision = revision + 1 WHERE id = $id
     RETURNING (SELECT row_to_json(t) FROM (SELECT ${toldColumns(kind)} FROM "${kind.name}" WHERE id = $targetId) t) AS target, pg_notify('belay_ended', '')`,
);
