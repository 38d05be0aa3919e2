/** The saga's own bookkeeping: an operation's turn, its end, and what each makes of the resources it holds. */

import { acceptChild } from '../../acceptance/child.ts';
import { unmet } from '../../acceptance/holds.ts';
import type { Client } from '../../database/database.ts';
import { type Database, insertAll, run, transaction } from '../../database/database.ts';
import { eventRow } from '../../database/events.ts';
import { startOf } from '../../database/queue.ts';
import { isLocked } from '../../model/columns.ts';
import { instantAt } from '../../model/forms.ts';
import { kindOf } from '../../model/kinds.ts';
import type { ChildRequest, StartOperation } from '../../model/platform/operation.ts';
import { metrics } from '../../runtime/metrics.ts';
import { type OperationProblem, type StepReport, step } from '../step.ts';
import type { World } from '../world.ts';
import { conclude, finals, type Held, leave, lockOperation, type OperationRow, stepsFrom } from './operationRecord.ts';

/**
 * Takes a resource: what it only needs to stay is looked at, what it changes is moved into the state that says who holds it. Refuses when
 * the resource is not as the operation needs it any more.
 */
async function enter(
  tx: Client,
  { id: operationId, type }: OperationRow,
  held: Held,
): Promise<OperationProblem | null> {
  const { resourceKind: kind, resourceId: id, mode, fromStates: from, conditions, within } = held;
  const table = `"${kindOf(kind).name}"`;
  const [found] = await run<{ row: Record<string, unknown> }>(
    tx,
    `SELECT row_to_json(t) AS row FROM ${table} t WHERE id = $1 ${mode === 'S' ? '' : 'FOR UPDATE'}`,
    [id],
  );
  const refused = unmet({ kind, id, mode, from, conditions, ...(within ? { within } : {}) }, found?.row, type);
  if (refused) return { ...refused.details, code: refused.code, message: refused.message, step: null };
  await run(
    tx,
    `UPDATE "operationLock" SET entered = true, "fromState" = $4 WHERE "operationId" = $1 AND "resourceKind" = $2 AND "resourceId" = $3`,
    [operationId, kind, id, mode === 'S' ? null : String(found?.row.state ?? '')],
  );
  if (mode !== 'S' && isLocked(kindOf(kind)))
    await run(
      tx,
      `UPDATE ${table} SET ${held.viaState ? 'state = $3,' : ''} "currentOperationId" = $2, revision = revision + 1, "updatedAt" = now() WHERE id = $1`,
      held.viaState ? [id, operationId, held.viaState] : [id, operationId],
    );
  return null;
}

/** How a turn begins: `refused` ends the operation; `ended` is what came of it when it is over already. */
export interface Begun {
  refused: OperationProblem | null;
  ended?: { result: unknown };
}

/**
 * A run that is taken up again has forgotten what it did beside its history since the last event, its end perhaps too: it is told that, and
 * ends in the same way.
 */
async function endOf(tx: Client, { id, state }: OperationRow): Promise<Begun> {
  const [end] = await run<{ result: unknown; error: OperationProblem | null }>(
    tx,
    'SELECT result, error FROM "operation" WHERE id = $1',
    [id],
  );
  if (state === 'succeeded') return { refused: null, ended: { result: end?.result ?? null } };
  return { refused: end?.error ?? { code: 'INVALID_STATE', message: `the operation is ${state}`, step: null } };
}

/** The same of one that no run may touch any more; undefined of one that has not ended. */
const howItEnded = (database: Database, operationId: string): Promise<Begun | undefined> =>
  transaction(database, async (tx) => {
    const operation = await lockOperation(tx, operationId);
    return finals.has(operation.state) ? endOf(tx, operation) : undefined;
  });

/** Whoever reads the operation above learns at its step that this one waits for a person, or does not any more. */
const showAtParent = (tx: Client, id: string, problem: OperationProblem | null): Promise<unknown> =>
  run(
    tx,
    `UPDATE "operation" parent SET "updatedAt" = now(), revision = parent.revision + 1, steps = (
       SELECT jsonb_agg(CASE WHEN step ->> 'operationId' = $1::text THEN step || jsonb_build_object('error', $2::jsonb) ELSE step END ORDER BY place)
       FROM jsonb_array_elements(parent.steps) WITH ORDINALITY AS one (step, place))
     FROM "operation" child WHERE child.id = $1::uuid AND parent.id = child."parentOperationId" AND parent."endedAt" IS NULL
       AND jsonb_array_length(parent.steps) > 0`,
    [id, problem && JSON.stringify({ ...problem, message: `operation ${id} is stuck: ${problem.message}` })],
  );

/** What the operation is about shows a fault, or none any more. What keeps no fault, such as a project that goes with all that is in it, has none to show. */
async function showFault(tx: Client, { id, targetKind, targetId }: OperationRow, fault: unknown): Promise<void> {
  if (!isLocked(kindOf(targetKind))) return;
  await run(
    tx,
    `UPDATE "${kindOf(targetKind).name}" SET fault = $2::jsonb, "updatedAt" = now(), revision = revision + 1
     WHERE id = $1 AND "currentOperationId" = $3`,
    [targetId, fault && JSON.stringify(fault), id],
  );
}

const nowRunning = `state = 'running', "startedAt" = coalesce("startedAt", now()), "updatedAt" = now(), revision = revision + 1`;

export const operations = ({ database }: World) => ({
  /** Its turn has come: preconditions are checked once more, then the resources are its own. */
  begin: step({
    system: 'record',
    async do({ operationId }: { operationId: string }): Promise<Begun> {
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
        if (finals.has(operation.state)) return endOf(tx, operation);
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
    system: 'record',
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
    system: 'record',
    async do({
      operationId,
      steps,
      problem,
    }: {
      operationId: string;
      steps: StepReport[];
      problem: OperationProblem;
    }): Promise<Begun | undefined> {
      const [rolled] = await run<{ type: string }>(
        database.pool,
        `UPDATE "operation" SET state = 'rollingBack', steps = ${stepsFrom('$2')}, error = $3::jsonb, "updatedAt" = now(), revision = revision + 1
         WHERE id = $1 AND "endedAt" IS NULL RETURNING type`,
        [operationId, JSON.stringify(steps), JSON.stringify(problem)],
      );
      if (!rolled) return howItEnded(database, operationId);
      metrics.rollbacks.labels(rolled.type).inc();
      return undefined;
    },
  }),

  /** Everything is undone: what this operation made becomes a tombstone, what it changed is as it was. */
  fail: step({
    system: 'record',
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
    system: 'record',
    async do(at: {
      operationId: string;
      steps: StepReport[];
      problem: OperationProblem;
      committed: boolean;
    }): Promise<Begun | undefined> {
      return transaction(database, async (tx) => {
        const operation = await lockOperation(tx, at.operationId);
        if (finals.has(operation.state)) return endOf(tx, operation);
        // A question that was asked before, and may be answered by now, is not asked again by a try that comes late.
        const [asked] = await run(
          tx,
          `UPDATE "operation" SET state = 'stuck', steps = ${stepsFrom('$2')}, error = $3::jsonb, "updatedAt" = now(), revision = revision + 1
           WHERE id = $1 AND "endedAt" IS NULL AND coalesce((error->>'question')::int, 0) < coalesce($4, 2147483647) RETURNING 1`,
          [at.operationId, JSON.stringify(at.steps), JSON.stringify(at.problem), at.problem.question ?? null],
        );
        if (!asked) return undefined;
        await showAtParent(tx, at.operationId, at.problem);
        await showFault(tx, operation, { ...at.problem, operationId: at.operationId });
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
        return undefined;
      });
    },
  }),

  resume: step({
    system: 'record',
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
        await showAtParent(tx, at.operationId, null);
        await showFault(tx, operation, null);
      });
    },
  }),

  /**
   * Accepts an operation that this one begins. `start` is what its run is begun with, as soon as it is first in line; null of a change of
   * records alone, which is done by then.
   */
  acceptChild: step({
    system: 'record',
    async do(asked: {
      operationId: string;
      stepIndex: number;
      key: string;
      request: ChildRequest;
      /** An undo, or past the point of no return. */
      goesOn: boolean;
    }): Promise<{ start: StartOperation | null; waits: boolean }> {
      const outcome = await acceptChild(database, asked.operationId, asked.key, asked.request, asked.goesOn);
      if (outcome.status !== 202) return { start: null, waits: false };
      const { id } = JSON.parse(outcome.body) as { id: string };
      const told = { index: asked.stepIndex, name: asked.request.type, state: 'running', attempts: 1, operationId: id };
      await run(
        database.pool,
        `UPDATE "operation" SET steps = belay_merge_steps(steps, $2::jsonb), "updatedAt" = now() WHERE id = $1 AND "endedAt" IS NULL`,
        [asked.operationId, JSON.stringify([{ ...told, startedAt: instantAt(), endedAt: null, error: null }])],
      );
      // A repeated try only hears what the first was answered: whether it waits is asked of the line.
      const [line] = await run<{ waits: boolean }>(
        database.pool,
        `SELECT EXISTS (SELECT 1 FROM "operationLock" WHERE "operationId" = $1 AND NOT entered) AS waits`,
        [id],
      );
      return { start: await startOf(database, id), waits: line?.waits ?? false };
    },
  }),

  /** Cancels a child: at once while it waits in line; one that runs is asked to undo itself, and is answered as running. */
  cancelChild: step({
    system: 'record',
    async do({ childId }: { childId: string }): Promise<{ running: boolean }> {
      return transaction(database, async (tx) => {
        const child = await lockOperation(tx, childId);
        if (finals.has(child.state)) return { running: false };
        if (child.state !== 'queued') {
          await run(
            tx,
            `UPDATE "operation" SET "cancelRequestedAt" = coalesce("cancelRequestedAt", now()), "updatedAt" = now(), revision = revision + 1
             WHERE id = $1 AND NOT "pointOfNoReturnPassed"`,
            [childId],
          );
          return { running: true };
        }
        await leave(
          tx,
          childId,
          child.held.filter((entry) => entry.entered),
          (entry) => entry.fromState ?? 'failed',
        );
        await conclude(tx, child, {
          state: 'cancelled',
          steps: [],
          error: { code: 'CANCELLED', message: 'cancelled with the operation that began it', step: null },
          result: null,
        });
        return { running: false };
      });
    },
  }),
});
