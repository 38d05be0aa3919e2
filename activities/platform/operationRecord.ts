/** The record of an operation while it is under way: locked, freed of what it holds, and concluded. */
import type { Condition } from '../../acceptance/change.ts';
import { freeAddress } from '../../database/addresses.ts';
import { type Client, insertAll, run } from '../../database/database.ts';
import { eventRow, toldColumns } from '../../database/events.ts';
import { forgetSecrets } from '../../database/secrets.ts';
import { isLocked } from '../../model/columns.ts';
import { happenedOf } from '../../model/happened.ts';
import type { LockMode } from '../../model/kind.ts';
import { kindOf } from '../../model/kinds.ts';
import { metrics } from '../../runtime/metrics.ts';
import { Problem } from '../../runtime/problem.ts';
import type { OperationProblem, StepReport } from '../step.ts';

export interface Held {
  resourceKind: string;
  resourceId: string;
  mode: LockMode;
  entered: boolean;
  fromStates: string[];
  conditions: Condition[];
  viaState: string | null;
  fromState: string | null;
  toState: string | null;
  /** The operation above that holds it, whose it is again afterwards. */
  within: string | null;
}

export interface OperationRow {
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
export const stepsFrom = (parameter: string): string =>
  `belay_merge_steps(${parameter}::jsonb, (
     SELECT coalesce(jsonb_agg(jsonb_build_object('index', told->'index', 'attempts', told->'attempts')), '[]')
     FROM jsonb_array_elements("operation".steps) told
     WHERE told ? 'attempts' AND (told->>'index')::int < jsonb_array_length(${parameter}::jsonb)))`;

export const finals = new Set(['succeeded', 'failed', 'cancelled']);
const ends = new Set(['deleted', 'expunged']);

const heldJson = `(SELECT coalesce(json_agg(json_build_object('resourceKind', l."resourceKind", 'resourceId', l."resourceId", 'mode', l.mode, 'entered', l.entered,
    'fromStates', l."fromStates", 'conditions', l.conditions, 'viaState', l."viaState", 'fromState', l."fromState", 'toState', l."toState", 'within', l.within) ORDER BY l.ticket), '[]')
  FROM "operationLock" l WHERE l."operationId" = "operation".id)`;

export async function lockOperation(tx: Client, operationId: string): Promise<OperationRow> {
  const [row] = await run<OperationRow>(
    tx,
    `SELECT id, type, state, "targetKind", "targetId", "projectId", "actorUserId", "actorApiKeyId", "cancelRequestedAt", "requestId", "createdAt",
            ${heldJson} AS held
     FROM "operation" WHERE id = $1 FOR UPDATE`,
    [operationId],
  );
  if (!row) throw new Problem('NOT_FOUND', `there is no operation ${operationId}`);
  return row;
}

/**
 * Ends what an operation held: states as given by `stateOf`, tombstones where a life is over, addresses and secrets freed.
 * Wakes the dispatcher when another operation waits for any of it.
 */
export async function leave(
  tx: Client,
  operationId: string,
  held: Held[],
  stateOf: (held: Held) => string | null,
): Promise<void> {
  const left = held.flatMap((entry) => {
    if (entry.mode === 'S' || !isLocked(kindOf(entry.resourceKind))) return [];
    // What it only held is in the state that it, or a child of it, has brought about.
    const onlyHeld = entry.fromState !== null && entry.viaState === null && entry.toState === null;
    // Empty where the kind has no states.
    const state = onlyHeld ? null : stateOf(entry) || null;
    return {
      kind: kindOf(entry.resourceKind),
      id: entry.resourceId,
      state,
      within: entry.within,
      dies: state === 'failed' || (state !== null && ends.has(state)),
    };
  });
  const kinds = [...new Set(left.map(({ kind }) => kind))];
  const updates = kinds.map(
    ({ name, states }, index) => `
       left${index} AS (UPDATE "${name}" t SET ${states ? 'state = coalesce(e.state, t.state),' : ''} "currentOperationId" = CASE WHEN NOT e.dies THEN e.within END, fault = NULL,
         revision = t.revision + 1, "updatedAt" = now(), "deletedAt" = CASE WHEN e.dies THEN now() ELSE t."deletedAt" END
         FROM json_to_recordset($${index + 2}::json) AS e(id uuid, state text, dies boolean, within uuid) WHERE t.id = e.id AND t."currentOperationId" = $1),`,
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
      ...kinds.map((kind) => JSON.stringify(left.flatMap(({ kind: of, ...one }) => (of === kind ? [one] : [])))),
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

export async function conclude(
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
