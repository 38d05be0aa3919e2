/** The saga's own bookkeeping: an operation's turn, its end, and what each makes of the resources it holds. */

import type { Outcome } from '../../acceptance/change.ts';
import { acceptChild } from '../../acceptance/child.ts';
import { unmet } from '../../acceptance/holds.ts';
import { takeBackWord } from '../../database/claims.ts';
import type { Transaction } from '../../database/database.ts';
import { type Database, insertAll, transaction } from '../../database/database.ts';
import { eventRow } from '../../database/events.ts';
import { startOf } from '../../database/queue.ts';
import {
  askPerson,
  beginEntered,
  beginRollback,
  beginRunning,
  enterLock,
  goOn,
  holdResource,
  holdResourceIn,
  lockResourceRow,
  requestCancel,
  resourceRow,
  resultOf,
  setFault,
  setStepError,
  tellSteps,
  waitsInLine,
} from '../../database/runs.ts';
import { isLocked } from '../../model/columns.ts';
import { instantAt } from '../../model/forms.ts';
import { actionNamed, kindOf } from '../../model/kinds.ts';
import type { ChildRequest, StartOperation } from '../../model/platform/operation.ts';
import { metrics } from '../../runtime/metrics.ts';
import { Problem } from '../../runtime/problem.ts';
import { type OperationProblem, type StepReport, step } from '../step.ts';
import type { World } from '../world.ts';
import { conclude, finals, type LockEntry, lockOperation, type OperationRow, releaseLocks } from './operationRecord.ts';

/**
 * Takes a resource: what it only needs to stay is looked at, what it changes is moved into the state that says who holds it. Refuses when
 * the resource is not as the operation needs it any more.
 */
async function enter(
  tx: Transaction,
  { id: operationId, type }: OperationRow,
  held: LockEntry,
): Promise<OperationProblem | null> {
  const { resourceKind: kind, resourceId: id, mode, fromStates: from, conditions, within } = held;
  const lookAt = mode === 'S' ? resourceRow : lockResourceRow;
  const [found] = await lookAt(kindOf(kind))(tx, { id });
  const overtakes = within !== null && actionNamed(type)?.action.overtakes === true;
  const refused = unmet(
    { kind, id, mode, from, conditions, overtakes, ...(within ? { within } : {}) },
    found?.row,
    type,
  );
  if (refused) return { ...refused.details, code: refused.code, message: refused.message, step: null };
  await enterLock(tx, { operationId, kind, id, fromState: mode === 'S' ? null : String(found?.row.state ?? '') });
  if (mode === 'S' || !isLocked(kindOf(kind))) return null;
  if (held.viaState) await holdResourceIn(kindOf(kind))(tx, { id, operationId, state: held.viaState });
  else await holdResource(kindOf(kind))(tx, { id, operationId });
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
async function endOf(tx: Transaction, { id, state }: OperationRow): Promise<Begun> {
  const [end] = await resultOf(tx, { id });
  const error = end?.error as OperationProblem | null | undefined;
  if (state === 'succeeded') return { refused: null, ended: { result: end?.result ?? null } };
  return { refused: error ?? { code: 'INVALID_STATE', message: `the operation is ${state}`, step: null } };
}

/** The same of one that no run may touch any more; undefined of one that has not ended. */
const howItEnded = (database: Database, operationId: string): Promise<Begun | undefined> =>
  transaction(database, async (tx) => {
    const operation = await lockOperation(tx, operationId);
    return finals.has(operation.state) ? endOf(tx, operation) : undefined;
  });

/** Whoever reads the operation above learns at its step that this one waits for a person, or does not any more. */
const showAtParent = (tx: Transaction, id: string, problem: OperationProblem | null): Promise<unknown> =>
  setStepError(tx, {
    id,
    error: problem && JSON.stringify({ ...problem, message: `operation ${id} is stuck: ${problem.message}` }),
  });

/** What the operation is about shows a fault, or none any more. What keeps no fault, such as a project that goes with all that is in it, has none to show. */
async function showFault(tx: Transaction, { id, targetKind, targetId }: OperationRow, fault: unknown): Promise<void> {
  if (!isLocked(kindOf(targetKind))) return;
  const kind = kindOf(targetKind);
  await setFault(kind)(tx, { id: targetId, operationId: id, fault: fault ? JSON.stringify(fault) : null });
}

/** Null where the target is not in a state for it any more, or gone, and that is all that was to be brought about. */
async function acceptUnlessNeedless(
  database: Database,
  { operationId, key, request, goesOn }: { operationId: string; key: string; request: ChildRequest; goesOn: boolean },
): Promise<Outcome | null> {
  try {
    return await acceptChild(database, operationId, key, request, goesOn);
  } catch (error) {
    const isNeedless = error instanceof Problem && (error.code === 'INVALID_STATE' || error.code === 'NOT_FOUND');
    if (request.whileFit && isNeedless) return null;
    throw error;
  }
}

export const operations = ({ database }: World) => ({
  /** Its turn has come: preconditions are checked once more, then the resources are its own. */
  begin: step({
    system: 'record',
    async do({ operationId }: { operationId: string }): Promise<Begun> {
      const [begun] = await beginEntered(database.connections, { id: operationId });
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
          await takeBackWord(tx, { operationId });
          const { held: now } = await lockOperation(tx, operationId);
          await releaseLocks(
            tx,
            operation,
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
        await beginRunning(tx, { id: operationId });
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
        await releaseLocks(tx, operation, operation.held, (entry) => entry.toState ?? entry.fromState);
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
      const [rolled] = await beginRollback(database.connections, {
        id: operationId,
        steps: JSON.stringify(steps),
        problem: JSON.stringify(problem),
      });
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
        await releaseLocks(tx, operation, operation.held, (entry) => entry.fromState ?? 'failed');
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
        const [asked] = await askPerson(tx, {
          id: at.operationId,
          steps: JSON.stringify(at.steps),
          problem: JSON.stringify(at.problem),
          question: (at.problem.question as number | undefined) ?? null,
        });
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
        const [resumed] = await goOn(tx, {
          id: at.operationId,
          state: at.rollingBack ? 'rollingBack' : 'running',
          question: at.question ?? null,
        });
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
      const outcome = await acceptUnlessNeedless(database, asked);
      if (outcome?.status !== 202) return { start: null, waits: false };
      const { id } = JSON.parse(outcome.body) as { id: string };
      const told = { index: asked.stepIndex, name: asked.request.type, state: 'running', attempts: 1, operationId: id };
      const steps = JSON.stringify([{ ...told, startedAt: instantAt(), endedAt: null, error: null }]);
      await tellSteps(database.connections, { id: asked.operationId, steps });
      // A repeated try only hears what the first was answered: whether it waits is asked of the line.
      const [line] = await waitsInLine(database.connections, { id });
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
          await requestCancel(tx, { id: childId });
          return { running: true };
        }
        await releaseLocks(
          tx,
          child,
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
