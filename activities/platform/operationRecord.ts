/** The record of an operation while it is under way: locked, freed of what it holds, and concluded. */

import type { Condition } from '../../acceptance/change.ts';
import { freeAddressesOf } from '../../database/addresses.ts';
import { insertAll, type Transaction } from '../../database/database.ts';
import { eventRow } from '../../database/events.ts';
import {
  endRunning,
  type LockRow,
  lockRunning,
  type Released,
  type RunningRow,
  releaseAll,
} from '../../database/runs.ts';
import { forgetSecrets } from '../../database/secrets.ts';
import { isLocked } from '../../model/columns.ts';
import { happenedOf } from '../../model/happened.ts';
import type { Kind } from '../../model/kind.ts';
import { kindOf } from '../../model/kinds.ts';
import { partsOfType } from '../../model/operationName.ts';
import { metrics } from '../../runtime/metrics.ts';
import { Problem } from '../../runtime/problem.ts';
import type { OperationProblem, StepReport } from '../step.ts';

export type LockEntry = Omit<LockRow, 'conditions'> & { conditions: Condition[] };
export type OperationRow = Omit<RunningRow, 'held'> & { held: LockEntry[] };

export const finals = new Set(['succeeded', 'failed', 'cancelled']);
const ends = new Set(['deleted', 'expunged']);

export async function lockOperation(tx: Transaction, operationId: string): Promise<OperationRow> {
  const [row] = await lockRunning(tx, { id: operationId });
  if (!row) throw new Problem('NOT_FOUND', `there is no operation ${operationId}`);
  return row as OperationRow;
}

/**
 * Ends what an operation held: states as given by `stateOf`, tombstones where a life is over, addresses and secrets freed.
 * Wakes the dispatcher when another operation waits for any of it.
 */
export async function releaseLocks(
  tx: Transaction,
  operationId: string,
  held: LockEntry[],
  stateOf: (held: LockEntry) => string | null,
): Promise<void> {
  const left = new Map<Kind, Released[]>();
  for (const entry of held) {
    const kind = kindOf(entry.resourceKind);
    if (entry.mode === 'S' || !isLocked(kind)) continue;
    // What it only held is in the state that it, or a child of it, has brought about.
    const onlyHeld = entry.fromState !== null && entry.viaState === null && entry.toState === null;
    // Empty where the kind has no states.
    const state = onlyHeld ? null : stateOf(entry) || null;
    const dies = state === 'failed' || (state !== null && ends.has(state));
    left.set(kind, [...(left.get(kind) ?? []), { id: entry.resourceId, state, within: entry.within, dies }]);
  }
  await releaseAll(tx, operationId, left);
  for (const [{ name }, rows] of left)
    for (const { id, dies } of rows) {
      if (!dies) continue;
      await forgetSecrets(tx, { kind: name, id });
      await freeAddressesOf(tx, name, id);
    }
}

export async function conclude(
  tx: Transaction,
  operation: OperationRow,
  end: {
    state: 'succeeded' | 'failed' | 'cancelled';
    steps: StepReport[];
    error: OperationProblem | null;
    result: unknown;
  },
): Promise<void> {
  const kind = kindOf(operation.targetKind);
  const [concluded] = await endRunning(kind)(tx, {
    id: operation.id,
    state: end.state,
    steps: JSON.stringify(end.steps),
    error: end.error === null ? null : JSON.stringify(end.error),
    result: end.result === null ? null : JSON.stringify(end.result),
    targetId: operation.targetId,
  });
  metrics.operations.labels(operation.type, end.state).inc();
  const { verb } = partsOfType(operation.type);
  const happened =
    end.state === 'succeeded' ? happenedOf(kind, verb) : `${verb}${end.state === 'failed' ? 'Failed' : 'Cancelled'}`;
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
