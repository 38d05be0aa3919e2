import { columnsOf } from '../model/columns.ts';
import { instantFormat } from '../model/forms.ts';
import type { Kind } from '../model/kind.ts';
import { kindOf } from '../model/kinds.ts';
import { actorMembers } from '../model/veil.ts';
import { type Database, transaction } from './database.ts';
import { written } from './statement.ts';

/** What clients are told of a resource of this kind, as columns of a statement, each in the form in which it is told. */
export const toldColumns = (kind: Kind): string =>
  columnsOf(kind)
    .filter(({ hidden, name }) => !hidden && !Object.hasOwn(actorMembers, name))
    .map(({ name, type }) =>
      type === 'timestamptz' ? `to_char("${name}" AT TIME ZONE 'UTC', '${instantFormat}') AS "${name}"` : `"${name}"`,
    )
    .join(', ');

/** What a row of the event stream needs; its place in the stream is given by the sealer, after the commit. */
export interface EventInput {
  type: string;
  severity?: 'info' | 'warning' | 'error' | 'critical';
  resourceKind: string;
  resourceId: string;
  projectId: string | null;
  operationId?: string | null;
  payload: unknown;
}

export const eventRow = (event: EventInput): Record<string, unknown> => ({
  id: crypto.randomUUID(),
  type: event.type,
  severity: event.severity ?? 'info',
  resourceKind: event.resourceKind,
  resourceId: event.resourceId,
  projectId: event.projectId,
  operationId: event.operationId ?? null,
  payload: event.payload,
});

/** Why an instance is stopped. Answers what clients are told of it. */
export const stopForReason = written<{ projectId: string }, { instanceId: string; reason: string }>(
  `UPDATE "instance" SET "stateReason" = $reason, "lostReason" = NULL WHERE id = $instanceId RETURNING ${toldColumns(kindOf('instance'))}`,
);

/** The instance is lost from now on, whatever becomes of the operation that holds it. Answers what clients are told of it. */
export const loseInstance = written<{ projectId: string }, { instanceId: string; operationId: string; reason: string }>(
  `WITH lost AS (UPDATE "operationLock" SET "fromState" = 'lost' WHERE "operationId" = $operationId::uuid AND "resourceKind" = 'instance' AND "resourceId" = $instanceId::uuid)
   UPDATE "instance" SET "stateReason" = 'hostFailed', "lostReason" = $reason WHERE id = $instanceId::uuid RETURNING ${toldColumns(kindOf('instance'))}`,
);

const oneSealer = written<{ mine: boolean }>(
  `SELECT pg_try_advisory_xact_lock(hashtextextended('seal events', 0)) AS mine`,
);

const placeFresh = written<unknown>(
  `WITH fresh AS (SELECT id, row_number() OVER (ORDER BY "createdAt", id) AS place
                  FROM (SELECT id, "createdAt" FROM "event" WHERE sequence IS NULL ORDER BY "createdAt", id LIMIT 1000) f),
        last AS (SELECT coalesce(max(sequence), 0) AS n FROM "event")
   UPDATE "event" e SET sequence = last.n + fresh.place FROM fresh, last WHERE e.id = fresh.id RETURNING 1`,
);

/** Places events in the stream after their commit, so that a follower who has seen number n has seen all before it. Answers how many. */
export const sealEvents = (database: Database): Promise<number> =>
  transaction(database, async (tx) => {
    const [lock] = await oneSealer(tx);
    return lock?.mine ? (await placeFresh(tx)).length : 0;
  });

/** Numbers of the oldest and of the newest event that there is. */
export const endsOfEvents = written<{ first: string; last: string }>(
  `SELECT coalesce(min(sequence), 1)::text AS first, coalesce(max(sequence), 0)::text AS last FROM "event"`,
);
