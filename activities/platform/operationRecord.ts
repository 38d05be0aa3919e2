/** The record of an operation while it is under way: locked, freed of what it holds, and concluded. */

import type { Condition } from '../../acceptance/change.ts';
import { freeAddressesOf } from '../../database/addresses.ts';
import { insertAll, type Transaction } from '../../database/database.ts';
import { eventRow } from '../../database/events.ts';
import { handOn, holdOnHost, leaveInside } from '../../database/givingWay.ts';
import { lockParent, noteWaitingParts } from '../../database/operations.ts';
import {
  endRunning,
  type LockRow,
  lockResourceRow,
  lockRunning,
  type Released,
  type RunningRow,
  releaseAll,
} from '../../database/runs.ts';
import { forgetSecrets } from '../../database/secrets.ts';
import { isLocked } from '../../model/columns.ts';
import { happenedOf } from '../../model/happened.ts';
import type { Kind } from '../../model/kind.ts';
import { actionNamed, kindOf } from '../../model/kinds.ts';
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

type StateOf = (held: LockEntry) => string | null;

/** Null where it stays as it is: what an operation only held is in the state that it, or a child of it, has brought about. */
function stateAfter(entry: LockEntry, stateOf: StateOf): string | null {
  const onlyHeld = entry.fromState !== null && entry.viaState === null && entry.toState === null;
  // Empty where the kind has no states.
  return onlyHeld ? null : stateOf(entry) || null;
}

/**
 * Of a failover that works inside the hold of an operation that gives way either may end first: the other leaves the host as both have left it. Both lock the
 * record of the one that gives way, so they end one after the other. Answers what is to be released.
 */
async function agreeOnHost(
  tx: Transaction,
  { id: operationId, type }: Pick<OperationRow, 'id' | 'type'>,
  held: LockEntry[],
  stateOf: StateOf,
): Promise<LockEntry[]> {
  const { givesWay, overtakes } = actionNamed(type)?.action ?? {};
  const released: LockEntry[] = [];
  for (const entry of held) {
    const { resourceKind, resourceId: hostId, within } = entry;
    const isInside = overtakes && within !== null;
    if (resourceKind !== 'host' || !(givesWay || isInside)) {
      released.push(entry);
      continue;
    }
    // Whoever gets inside, or ends, at this moment is seen afterwards.
    if (isInside) await lockParent(tx, { id: within });
    else await lockResourceRow(kindOf('host'))(tx, { id: hostId });
    const [now] = await holdOnHost(tx, { operationId, hostId });
    const present = { ...entry, ...now };
    const state = stateAfter(present, stateOf);
    if (!isInside) await handOn(tx, { operationId, hostId, state });
    else if (present.within !== null && state !== null && state !== present.fromState)
      await leaveInside(tx, { within: present.within, hostId, state });
    released.push(present);
  }
  return released;
}

/**
 * Ends what an operation held: states as given by `stateOf`, tombstones where a life is over, addresses and secrets freed.
 * Wakes the dispatcher when another operation waits for any of it.
 */
export async function releaseLocks(
  tx: Transaction,
  operation: Pick<OperationRow, 'id' | 'type'>,
  held: LockEntry[],
  stateOf: StateOf,
): Promise<void> {
  const { id: operationId } = operation;
  const left = new Map<Kind, Released[]>();
  for (const entry of await agreeOnHost(tx, operation, held, stateOf)) {
    const kind = kindOf(entry.resourceKind);
    if (entry.mode === 'S' || !isLocked(kind)) continue;
    const state = stateAfter(entry, stateOf);
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
  // However it ended, nobody is asked for anything any more.
  if (operation.waitsFor !== null && operation.parentOperationId !== null) {
    await lockParent(tx, { id: operation.parentOperationId });
    await noteWaitingParts(tx, { id: operation.parentOperationId });
  }
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
