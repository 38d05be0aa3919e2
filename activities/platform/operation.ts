/** The saga's own bookkeeping: an operation's turn, its end, and what each makes of the resources it holds. */

import type { Condition } from '../../acceptance/change.ts';
import { unmet } from '../../acceptance/holds.ts';
import { freeAddress } from '../../database/addresses.ts';
import type { Client } from '../../database/database.ts';
import { insertAll, run, transaction } from '../../database/database.ts';
import { eventRow, toldColumns } from '../../database/events.ts';
import { forgetSecrets } from '../../database/secrets.ts';
import { happenedOf } from '../../model/happened.ts';
import type { LockMode } from '../../model/kind.ts';
import { kindOf } from '../../model/kinds.ts';
import { metrics } from '../../runtime/metrics.ts';
import { type OperationProblem, type StepReport, step } from '../step.ts';
import type { World } from '../world.ts';

interface Held {
  resourceKind: string;
  resourceId: string;
  mode: LockMode;
  entered: boolean;
  fromStates: string[];
  conditions: Condition[];
  viaState: string | null;
  fromState: string | null;
  toState: string | null;
}

interface OperationRow {
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
  createdAt: Date;
  /** What it holds, in the order in which it asked. */
  held: Held[];
}

/** The saga's list of steps, with the attempts that workers have told: a workflow does not see them. */
const stepsFrom = (parameter: string): string =>
  `belay_merge_steps(${parameter}::jsonb, (
     SELECT coalesce(jsonb_agg(jsonb_build_object('index', told->'index', 'attempts', told->'attempts')), '[]')
     FROM jsonb_array_elements("operation".steps) told
     WHERE told ? 'attempts' AND (told->>'index')::int < jsonb_array_length(${parameter}::jsonb)))`;

const finals = new Set(['succeeded', 'failed', 'cancelled']);
const ends = new Set(['deleted', 'expunged']);

const heldJson = `(SELECT coalesce(json_agg(json_build_object('resourceKind', l."resourceKind", 'resourceId', l."resourceId", 'mode', l.mode, 'entered', l.entered,
    'fromStates', l."fromStates", 'conditions', l.conditions, 'viaState', l."viaState", 'fromState', l."fromState", 'toState', l."toState") ORDER BY l.ticket), '[]')
  FROM "operationLock" l WHERE l."operationId" = "operation".id)`;

async function lockOperation(tx: Client, operationId: string): Promise<OperationRow> {
  const [row] = await run<OperationRow>(
    tx,
    `SELECT id, type, state, "targetKind", "targetId", "projectId", "actorUserId", "actorApiKeyId", "cancelRequestedAt", "requestId", "createdAt",
            ${heldJson} AS held
     FROM "operation" WHERE id = $1 FOR UPDATE`,
    [operationId],
  );
  if (!row) throw new Error(`there is no operation ${operationId}`);
  return row;
}

/**
 * Takes a resource: what it only needs to stay is looked at, what it changes is moved into the state that says who holds it. Refuses when
 * the resource is not as the operation needs it any more.
 */
async function enter(
  tx: Client,
  { id: operationId, type }: OperationRow,
  held: Held,
): Promise<OperationProblem | null> {
  const { resourceKind: kind, resourceId: id, mode, fromStates: from, conditions } = held;
  const table = `"${kindOf(kind).name}"`;
  const [found] = await run<{ row: Record<string, unknown> }>(
    tx,
    `SELECT row_to_json(t) AS row FROM ${table} t WHERE id = $1 ${mode === 'S' ? '' : 'FOR UPDATE'}`,
    [id],
  );
  const refused = unmet({ kind, id, mode, from, conditions }, found?.row, type);
  if (refused) return { ...refused.details, code: refused.code, message: refused.message, step: null };
  await run(
    tx,
    `UPDATE "operationLock" SET entered = true, "fromState" = $4 WHERE "operationId" = $1 AND "resourceKind" = $2 AND "resourceId" = $3`,
    [operationId, kind, id, mode === 'S' ? null : String(found?.row.state ?? '')],
  );
  if (mode !== 'S')
    await run(
      tx,
      `UPDATE ${table} SET ${held.viaState ? 'state = $3,' : ''} "currentOperationId" = $2, revision = revision + 1, "updatedAt" = now() WHERE id = $1`,
      held.viaState ? [id, operationId, held.viaState] : [id, operationId],
    );
  return null;
}

/**
 * Ends what an operation held: states as given by `stateOf`, tombstones where a life is over, addresses and secrets freed.
 * Wakes the dispatcher when another operation waits for any of it.
 */
async function leave(
  tx: Client,
  operationId: string,
  held: Held[],
  stateOf: (held: Held) => string | null,
): Promise<void> {
  const left = held.flatMap((entry) => {
    if (entry.mode === 'S') return [];
    // Empty where the kind has no states.
    const state = stateOf(entry) || null;
    return {
      kind: kindOf(entry.resourceKind),
      id: entry.resourceId,
      state,
      dies: state === 'failed' || (state !== null && ends.has(state)),
    };
  });
  const kinds = [...new Set(left.map(({ kind }) => kind))];
  const updates = kinds.map(
    ({ name, states }, index) => `
       left${index} AS (UPDATE "${name}" t SET ${states ? 'state = coalesce(e.state, t.state),' : ''} "currentOperationId" = NULL, fault = NULL,
         revision = t.revision + 1, "updatedAt" = now(), "deletedAt" = CASE WHEN e.dies THEN now() ELSE t."deletedAt" END
         FROM json_to_recordset($${index + 2}::json) AS e(id uuid, state text, dies boolean) WHERE t.id = e.id AND t."currentOperationId" = $1),`,
  );
  await run(
    tx,
    `WITH ${updates.join('')}
       unfenced AS (DELETE FROM "stepFence" WHERE "operationId" = $1),
       gone AS (DELETE FROM "operationLock" WHERE "operationId" = $1 RETURNING "resourceKind", "resourceId", mode)
     SELECT pg_notify('belay_queue', '') WHERE EXISTS (
       SELECT 1 FROM gone JOIN "operationLock" waiting USING ("resourceKind", "resourceId")
       WHERE waiting."operationId" <> $1 AND waiting.mode <> 'S' AND (gone.mode <> 'S' OR waiting.mode = 'D'))
     OR EXISTS (
       SELECT 1 FROM gone JOIN "operationLock" waiting USING ("resourceKind", "resourceId") WHERE waiting."operationId" <> $1 AND gone.mode = 'D')`,
    [
      operationId,
      ...kinds.map((kind) =>
        JSON.stringify(left.flatMap(({ id, state, dies, ...of }) => (of.kind === kind ? [{ id, state, dies }] : []))),
      ),
    ],
  );
  for (const { kind, id, dies } of left) {
    if (!dies) continue;
    await forgetSecrets(tx, { kind: kind.name, id });
    if (kind.name === 'subnet') {
      await run(tx, 'DELETE FROM "subnetAddress" WHERE "subnetId" = $1', [id]);
      await run(tx, 'DELETE FROM "subnetCursor" WHERE "subnetId" = $1', [id]);
    }
    if (kind.name === 'networkInterface') await freeAddress(tx, id);
  }
}

async function conclude(
  tx: Client,
  operation: OperationRow,
  end: {
    state: 'succeeded' | 'failed' | 'cancelled';
    steps: StepReport[];
    error: OperationProblem | null;
    result: unknown;
  },
): Promise<void> {
  const kind = kindOf(operation.targetKind);
  const [concluded] = await run<{ target: unknown }>(
    tx,
    `UPDATE "operation" SET state = $2, steps = ${stepsFrom('$3')}, error = $4::jsonb, result = $5::jsonb, progress = CASE WHEN $2 = 'succeeded' THEN 100 ELSE progress END,
       "endedAt" = now(), "updatedAt" = now(), revision = revision + 1 WHERE id = $1
     RETURNING (SELECT row_to_json(t) FROM (SELECT ${toldColumns(kind)} FROM "${kind.name}" WHERE id = $6) t) AS target`,
    [
      operation.id,
      end.state,
      JSON.stringify(end.steps),
      end.error === null ? null : JSON.stringify(end.error),
      end.result === null ? null : JSON.stringify(end.result),
      operation.targetId,
    ],
  );
  metrics.operations.labels(operation.type, end.state).inc();
  const verb = operation.type.split('.')[1] ?? '';
  const happened =
    end.state === 'succeeded' ? happenedOf(verb) : `${verb}${end.state === 'failed' ? 'Failed' : 'Cancelled'}`;
  await insertAll(tx, {
    event: [
      eventRow({
        type: `${kind.name}.${happened}`,
        severity: end.state === 'failed' ? 'error' : 'info',
        resourceKind: kind.name,
        resourceId: operation.targetId,
        projectId: operation.projectId,
        operationId: operation.id,
        payload: concluded?.target ?? null,
      }),
    ],
    auditEntry: [
      {
        id: crypto.randomUUID(),
        projectId: operation.projectId,
        actorUserId: operation.actorUserId,
        actorApiKeyId: operation.actorApiKeyId,
        permission: operation.type,
        resourceKind: kind.name,
        resourceId: operation.targetId,
        outcome: end.state === 'succeeded' ? 'succeeded' : 'failed',
        code: end.error?.code ?? null,
        operationId: operation.id,
        requestId: operation.requestId,
      },
    ],
  });
}

const nowRunning = `state = 'running', "startedAt" = coalesce("startedAt", now()), "updatedAt" = now(), revision = revision + 1`;

export const operations = ({ database }: World) => ({
  /** Its turn has come: preconditions are checked once more, then the resources are its own. */
  begin: step({
    async do({ operationId }: { operationId: string }): Promise<{ refused: OperationProblem | null }> {
      // What was first in line when it was accepted has entered all it holds by then, and nothing could change since.
      const [begun] = await run<{ createdAt: Date }>(
        database.pool,
        `UPDATE "operation" SET ${nowRunning} WHERE id = $1 AND state = 'queued' AND "cancelRequestedAt" IS NULL
           AND NOT EXISTS (SELECT 1 FROM "operationLock" WHERE "operationId" = $1 AND NOT entered) RETURNING "createdAt"`,
        [operationId],
      );
      if (begun) {
        metrics.lockWait.observe((Date.now() - begun.createdAt.getTime()) / 1000);
        return { refused: null };
      }
      return transaction(database, async (tx) => {
        const operation = await lockOperation(tx, operationId);
        if (finals.has(operation.state))
          return { refused: { code: 'INVALID_STATE', message: `the operation is ${operation.state}`, step: null } };
        if (operation.state !== 'queued') return { refused: null };
        const { held } = operation;
        let refused: OperationProblem | null = operation.cancelRequestedAt
          ? { code: 'CANCELLED', message: 'cancelled on request', step: null }
          : null;
        for (const entry of held) {
          if (refused || entry.entered) continue;
          refused = await enter(tx, operation, entry);
        }
        if (refused) {
          const { held: now } = await lockOperation(tx, operationId);
          await leave(
            tx,
            operationId,
            now.filter((entry) => entry.entered),
            (entry) => entry.fromState ?? 'failed',
          );
          await conclude(tx, operation, {
            state: operation.cancelRequestedAt ? 'cancelled' : 'failed',
            steps: [],
            error: refused,
            result: null,
          });
          return { refused };
        }
        await run(tx, `UPDATE "operation" SET ${nowRunning} WHERE id = $1`, [operationId]);
        metrics.lockWait.observe((Date.now() - operation.createdAt.getTime()) / 1000);
        return { refused: null };
      });
    },
  }),

  succeed: step({
    async do({
      operationId,
      steps,
      result,
    }: {
      operationId: string;
      steps: StepReport[];
      result: unknown;
    }): Promise<void> {
      await transaction(database, async (tx) => {
        const operation = await lockOperation(tx, operationId);
        if (finals.has(operation.state)) return;
        await leave(tx, operationId, operation.held, (entry) => entry.toState ?? entry.fromState);
        await conclude(tx, operation, { state: 'succeeded', steps, error: null, result });
      });
    },
  }),

  rollBack: step({
    async do({
      operationId,
      steps,
      problem,
    }: {
      operationId: string;
      steps: StepReport[];
      problem: OperationProblem;
    }): Promise<void> {
      const [rolled] = await run<{ type: string }>(
        database.pool,
        `UPDATE "operation" SET state = 'rollingBack', steps = ${stepsFrom('$2')}, error = $3::jsonb, "updatedAt" = now(), revision = revision + 1
         WHERE id = $1 AND "endedAt" IS NULL RETURNING type`,
        [operationId, JSON.stringify(steps), JSON.stringify(problem)],
      );
      if (rolled) metrics.rollbacks.labels(rolled.type).inc();
    },
  }),

  /** Everything is undone: what this operation made becomes a tombstone, what it changed is as it was. */
  fail: step({
    async do(end: {
      operationId: string;
      steps: StepReport[];
      problem: OperationProblem;
      cancelled: boolean;
    }): Promise<void> {
      await transaction(database, async (tx) => {
        const operation = await lockOperation(tx, end.operationId);
        if (finals.has(operation.state)) return;
        await leave(tx, end.operationId, operation.held, (entry) => entry.fromState ?? 'failed');
        await conclude(tx, operation, {
          state: end.cancelled ? 'cancelled' : 'failed',
          steps: end.steps,
          error: end.problem,
          result: null,
        });
      });
    },
  }),

  /** An undo, or a step after the point of no return, keeps failing: a person must look. Locks stay held. */
  stuck: step({
    async do(at: {
      operationId: string;
      steps: StepReport[];
      problem: OperationProblem;
      committed: boolean;
    }): Promise<void> {
      await transaction(database, async (tx) => {
        const operation = await lockOperation(tx, at.operationId);
        // A question that was asked before, and may be answered by now, is not asked again by a try that comes late.
        const [asked] = await run(
          tx,
          `UPDATE "operation" SET state = 'stuck', steps = ${stepsFrom('$2')}, error = $3::jsonb, "updatedAt" = now(), revision = revision + 1
           WHERE id = $1 AND "endedAt" IS NULL AND coalesce((error->>'question')::int, 0) < coalesce($4, 2147483647) RETURNING 1`,
          [at.operationId, JSON.stringify(at.steps), JSON.stringify(at.problem), at.problem.question ?? null],
        );
        if (!asked) return;
        await run(
          tx,
          `UPDATE "${kindOf(operation.targetKind).name}" SET fault = $2::jsonb, "updatedAt" = now(), revision = revision + 1
           WHERE id = $1 AND "currentOperationId" = $3`,
          [operation.targetId, JSON.stringify({ ...at.problem, operationId: at.operationId }), at.operationId],
        );
        await insertAll(tx, {
          event: [
            eventRow({
              type: 'operation.stuck',
              severity: 'critical',
              resourceKind: operation.targetKind,
              resourceId: operation.targetId,
              projectId: operation.projectId,
              operationId: operation.id,
              payload: at.problem,
            }),
          ],
        });
      });
    },
  }),

  resume: step({
    async do(at: {
      operationId: string;
      steps: StepReport[];
      rollingBack: boolean;
      skipped: string | null;
      /** The question that was answered; runs from before it was told do not say. */
      question?: number;
    }): Promise<void> {
      await transaction(database, async (tx) => {
        const operation = await lockOperation(tx, at.operationId);
        const [resumed] = await run(
          tx,
          `UPDATE "operation" SET state = $2, "updatedAt" = now(), revision = revision + 1
           WHERE id = $1 AND state = 'stuck' AND coalesce((error->>'question')::int = $3, TRUE) RETURNING 1`,
          [at.operationId, at.rollingBack ? 'rollingBack' : 'running', at.question ?? null],
        );
        if (!resumed) return;
        await run(
          tx,
          `UPDATE "${kindOf(operation.targetKind).name}" SET fault = NULL, "updatedAt" = now(), revision = revision + 1
           WHERE id = $1 AND "currentOperationId" = $2`,
          [operation.targetId, at.operationId],
        );
      });
    },
  }),
});
