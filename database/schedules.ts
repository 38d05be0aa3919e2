/** Schedules, and what they have made. */
import { allKinds } from '../model/kinds.ts';
import { type Queryable, statementName } from './database.ts';
import { prepared, type Statement, written } from './statement.ts';

/** The living schedule as JSON: instants are texts. */
export const scheduleById = written<{ row: Record<string, unknown> }, { id: string }>(
  'SELECT row_to_json(t) AS row FROM "schedule" t WHERE id = $id AND "deletedAt" IS NULL',
);

export const activeSchedulesAfter = written<{ row: Record<string, unknown> }, { after: string; atOnce: number }>(
  `SELECT row_to_json(t) AS row FROM "schedule" t WHERE state = 'active' AND "deletedAt" IS NULL AND "currentOperationId" IS NULL AND id > $after
   ORDER BY id LIMIT $atOnce`,
);

/** These in the order in which an operation of this type was last begun on them, those of which none was before all others. */
export const longestAgo = written<{ id: string }, { type: string; ids: string[] }>(
  `SELECT asked.id FROM unnest($ids::uuid[]) WITH ORDINALITY AS asked (id, place)
     LEFT JOIN LATERAL (SELECT max(o."startedAt") AS at FROM "operation" o WHERE o."targetId" = asked.id AND o.type = $type) turn ON TRUE
   ORDER BY turn.at NULLS FIRST, asked.place`,
);

/** One try of a run at a time makes its operation. */
export const lockRun = written<never, { key: string }>(`SELECT pg_advisory_xact_lock(hashtextextended($key, 1))`);

const writing = (columns: readonly string[]): string =>
  `UPDATE "schedule" t SET ${columns.map((name) => `"${name}" = n."${name}", `).join('')}revision = t.revision + 1, "updatedAt" = now()
   FROM json_populate_record(NULL::"schedule", $2::json) n WHERE t.id = $1`;

/** Writes the named columns of a schedule. */
export async function writeSchedule(
  on: Queryable,
  id: string,
  columns: readonly string[],
  values: Record<string, unknown>,
): Promise<void> {
  const text = writing(columns);
  await on.query({ name: statementName(text), text, values: [id, JSON.stringify(values)] });
}
prepared(() => [writing([]), writing(['name', 'cron'])]);

export interface MadeBySchedule {
  id: string;
  createdAt: Date;
  /** What it was made for. */
  about: string;
}

type Products = Statement<{ scheduleId: string; states: readonly string[]; failed: readonly string[] }, MadeBySchedule>;

const products = new Map<string, Products>(
  allKinds.flatMap(({ name, livesWith, fields }): [string, Products][] =>
    livesWith && fields.scheduleId
      ? [
          [
            name,
            written(
              `SELECT id, "createdAt", "${livesWith}" AS about FROM "${name}"
               WHERE "scheduleId" = $scheduleId AND "deletedAt" IS NULL AND state = ANY($states::text[]) AND "${livesWith}" <> ALL($failed::uuid[])`,
            ),
          ],
        ]
      : [],
  ),
);

/** What a schedule has made of a kind, but for those targets of which the run has failed. */
export const productsOf = (kind: string): Products | undefined => products.get(kind);
