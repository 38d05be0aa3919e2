/** What does not agree, or may go wrong: how it is seen, and how it goes. Whoever looks may look at the same moment as others do; the rows decide. */
import { kindOf } from '../model/kinds.ts';
import { insertAll, type Queryable } from './database.ts';
import { eventRow, toldColumns } from './events.ts';
import { from, statement, written } from './statement.ts';

const kind = kindOf('finding');

/** What somebody has seen. Its class, resource and `what` say which finding it is. */
export interface Sighting {
  class: 'orphan' | 'missing' | 'drifted' | 'misplaced' | 'duplicate' | 'risk';
  severity: 'info' | 'warning' | 'error' | 'critical';
  what: string;
  resourceKind: string;
  resourceId: string;
  system: string;
  location?: string | null;
  expected: string;
  actual: string;
  repair?: { action: string; input: unknown } | null;
}

/** Of which findings it is known that nothing is to be seen of them now. */
export interface Scope {
  resourceKind: string;
  resourceIds: string[];
  /** All, unless said. */
  what?: string[];
}

const isOver = `f.state IN ('gone', 'repaired')`;
/** How often it has been seen since it was over last. */
const seenBefore = `CASE WHEN ${isOver} THEN 0 ELSE f.sightings END`;
const isOpening = `(${isOver} OR f.state = 'sighted' OR (f.state = 'ignored' AND f."ignoredUntil" <= now()))
  AND ${seenBefore} + 1 >= $needed::int`;

/** Makes the finding, or sees it again. Answers what clients are told of it, and whether it is open since now. */
const upsert = written<
  { isNew: boolean },
  Omit<Sighting, 'repair'> & { id: string; repair: string | null; needed: number; location: string | null }
>(
  `INSERT INTO "finding" AS f (id, class, severity, what, "resourceKind", "resourceId", system, location, expected, actual, repair,
     sightings, "firstSeenAt", "lastSeenAt", "openedAt", state, "updatedAt")
   VALUES ($id, $class, $severity, $what, $resourceKind, $resourceId, $system, $location, $expected, $actual, $repair::jsonb,
     1, now(), now(), CASE WHEN $needed::int <= 1 THEN now() END, CASE WHEN $needed::int <= 1 THEN 'open' ELSE 'sighted' END, now())
   ON CONFLICT (class, "resourceKind", "resourceId", what) WHERE "deletedAt" IS NULL DO UPDATE SET
     severity = excluded.severity, system = excluded.system, location = excluded.location, expected = excluded.expected,
     actual = excluded.actual, repair = excluded.repair, sightings = ${seenBefore} + 1, "lastSeenAt" = now(),
     "firstSeenAt" = CASE WHEN ${isOver} THEN now() ELSE f."firstSeenAt" END,
     "openedAt" = CASE WHEN ${isOpening} THEN now() WHEN ${isOver} THEN NULL ELSE f."openedAt" END,
     state = CASE WHEN ${isOpening} THEN 'open' WHEN ${isOver} THEN 'sighted' ELSE f.state END,
     "updatedAt" = now(), revision = f.revision + 1
   RETURNING coalesce(f."openedAt" = now(), false) AS "isNew", ${toldColumns(kind)}`,
);

/** Those that are over now. Names beside those of the table are its own, so that nothing is ambiguous. */
const close = written<{ wasSaid: boolean }, { resourceKind: string; resourceIds: string[]; what: string[] | null }>(
  `WITH over AS (
     SELECT f.id AS "overId", f.state <> 'sighted' AS "wasSaid" FROM "finding" f
     WHERE f."resourceKind" = $resourceKind AND f."resourceId" = ANY($resourceIds::uuid[])
       AND ($what::text[] IS NULL OR f.what = ANY($what::text[]))
       AND f.state IN ('sighted', 'open', 'ignored') AND f."deletedAt" IS NULL FOR UPDATE)
   UPDATE "finding" f SET state = 'gone', "ignoredUntil" = NULL, "ignoreReason" = NULL, "updatedAt" = now(), revision = revision + 1
   FROM over WHERE f.id = over."overId" RETURNING over."wasSaid", ${toldColumns(kind)}`,
);

const tell = (tx: Queryable, happened: 'opened' | 'gone', found: Record<string, unknown>): Promise<void> =>
  insertAll(tx, {
    event: [
      eventRow({
        type: `finding.${happened}`,
        severity: happened === 'opened' ? (found.severity as Sighting['severity']) : 'info',
        resourceKind: 'finding',
        resourceId: String(found.id),
        projectId: null,
        payload: found,
      }),
    ],
  });

/**
 * Makes a finding, or sees it again; one that was over opens anew. With `needed` it is told to nobody until it was seen so often: what is just being
 * made or removed looks like a difference to whoever looks in between. It may be called in a transaction of the caller's.
 */
export async function see(tx: Queryable, sighting: Sighting, { needed = 1 } = {}): Promise<void> {
  const { location = null, repair = null, ...rest } = sighting;
  const [row] = await upsert(tx, {
    ...rest,
    id: crypto.randomUUID(),
    location,
    repair: repair && JSON.stringify(repair),
    needed,
  });
  if (!row) return;
  const { isNew, ...found } = row;
  if (isNew) await tell(tx, 'opened', found);
}

/** Nothing of these is to be seen any more. What nobody has found changes nothing, so it may be said at any time. */
export async function seenNoMore(tx: Queryable, { resourceKind, resourceIds, what }: Scope): Promise<void> {
  if (resourceIds.length === 0) return;
  for (const { wasSaid, ...found } of await close(tx, { resourceKind, resourceIds, what: what ?? null }))
    if (wasSaid) await tell(tx, 'gone', found);
}

/** How many are open, for the metric. */
export const openFindings = statement(() =>
  from
    .selectFrom('finding')
    .select((eb) => ['class', 'severity', eb.fn.countAll<string>().as('count')])
    .where('state', '=', 'open')
    .where('deletedAt', 'is', null)
    .groupBy(['class', 'severity']),
);
