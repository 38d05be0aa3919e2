/** What nobody needs any more after a while, and what time has passed over. */
import { isLocked } from '../model/columns.ts';
import type { Kind } from '../model/kind.ts';
import { allKinds } from '../model/kinds.ts';
import { written, writtenOfKind } from './statement.ts';

/** A deletion of more would hold up those who write there. */
export const forgottenAtOnce = 1000;

const olderThan = (moment: string, setting: string): string =>
  `${moment} < now() - make_interval(secs => (SELECT (s.value #>> '{}')::int FROM "setting" s WHERE s.name = '${setting}'))`;

/** Deletes some of the answers to Idempotency-Keys that were kept long enough. */
export const deleteOldAnswers = written<unknown>(
  `DELETE FROM "idempotencyKey" k WHERE (k."callerId", k.key) IN (
     SELECT o."callerId", o.key FROM "idempotencyKey" o WHERE ${olderThan('o."createdAt"', 'idempotency.keepSeconds')} LIMIT ${forgottenAtOnce}) RETURNING 1`,
);

/** Deletes some of the rows of a kind that were deleted for callers long ago. */
export const deleteTombstones = writtenOfKind<unknown>(
  allKinds,
  ({ name }) => `DELETE FROM "${name}" WHERE id IN (
    SELECT t.id FROM "${name}" t WHERE ${olderThan('t."deletedAt"', 'record.tombstoneSeconds')} LIMIT ${forgottenAtOnce}) RETURNING 1`,
);

/** Deletes some of the findings that have been over for long. */
export const deleteOldFindings = written<unknown>(
  `DELETE FROM "finding" WHERE id IN (
     SELECT f.id FROM "finding" f WHERE f.state IN ('gone', 'repaired') AND ${olderThan('f."updatedAt"', 'finding.keepSeconds')} LIMIT ${forgottenAtOnce}) RETURNING 1`,
);

/** A resource that is held by an operation which has ended. */
export interface Forgotten {
  id: string;
  state: string | null;
  projectId: string | null;
  hostId: string | null;
  operationId: string;
  type: string;
  ended: string;
}

export const heldKinds: Kind[] = allKinds.filter((kind) => isLocked(kind));

export const forgottenOf = writtenOfKind<Forgotten>(
  heldKinds,
  ({
    name,
    states,
    scope,
  }) => `SELECT t.id, ${states ? 't.state' : 'NULL AS state'}, ${scope === 'project' ? 't."projectId"' : 'NULL AS "projectId"'},
      ${name === 'instance' ? 't."hostId"' : 'NULL AS "hostId"'}, o.id AS "operationId", o.type, o.state AS ended
    FROM "${name}" t JOIN "operation" o ON o.id = t."currentOperationId"
    WHERE t."deletedAt" IS NULL AND o."endedAt" IS NOT NULL LIMIT 100`,
);

/** Frees one that is still held by that operation; it is in the given state then, where its kind has states. */
export const freeForgotten = writtenOfKind<{ id: string }, { id: string; operationId: string; state: string | null }>(
  heldKinds,
  ({ name, states }) =>
    `UPDATE "${name}" t SET ${states ? 'state = coalesce($state, state),' : ''} "currentOperationId" = NULL, fault = NULL, revision = revision + 1, "updatedAt" = now()
     WHERE id = $id AND "currentOperationId" = $operationId RETURNING id`,
);

const overdueAtOnce = 50;

/** The window began when it was destroyed. */
const windowIsOver = `t.state = 'destroyed' AND t."destroyedAt" < now() - make_interval(secs => (
  SELECT (s.value #>> '{}')::int FROM "setting" s WHERE s.name = 'instance.recoveryWindowSeconds'))`;

const overdueWhere = (table: string, where: string) =>
  written<{ id: string }, { after: string }>(
    `SELECT t.id FROM "${table}" t WHERE ${where} AND t."deletedAt" IS NULL AND t."currentOperationId" IS NULL AND t.id > $after ORDER BY t.id LIMIT ${overdueAtOnce}`,
  );

/** What has come to its end, of each kind that has one, in the order of ids. */
export const overdue = {
  atOnce: overdueAtOnce,
  instance: overdueWhere('instance', windowIsOver),
  // A root volume goes with its instance.
  volume: overdueWhere('volume', `${windowIsOver} AND (t.role = 'data' OR t."instanceId" IS NULL)`),
  snapshot: overdueWhere('snapshot', `t."expiresAt" < now() AND t.state = 'ready'`),
  // An upload that has begun in time may come to its end.
  image: overdueWhere(
    'image',
    `t."uploadExpiresAt" < now() AND t.state = 'awaitingUpload' AND NOT EXISTS (SELECT 1 FROM "upload" u WHERE u."imageId" = t.id)`,
  ),
};
