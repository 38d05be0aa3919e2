/** What does not agree, or may go wrong: how it is seen, and how it goes. Whoever looks may look at the same moment as others do; the rows decide. */
import { kindOf } from '../model/kinds.ts';
import { insertAll, type Queryable } from './database.ts';
import { eventRow, toldColumns } from './events.ts';
import { settingOf } from './settings.ts';
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
  /** On the resource itself, unless it says on which. */
  repair?: { action: string; targetId?: string | null; input: Record<string, unknown> } | null;
}

/** Of which findings it is known that nothing is to be seen of them now. */
export interface Scope {
  resourceKind: string;
  resourceIds: string[];
  /** All, unless said. */
  what?: string[];
}

/** A look at all that there is of a system in one place. */
export interface Look {
  system: string;
  /** Null: everywhere. */
  location: string | null;
  /** What it can tell of. */
  what: string[];
  /** As the database's clock has it. */
  since: Date;
}

const isOver = `f.state IN ('gone', 'repaired')`;
/** How often it has been seen since it was over last. */
const seenBefore = `CASE WHEN ${isOver} THEN 0 ELSE f.sightings END`;
const isOpening = `(${isOver} OR f.state = 'sighted' OR (f.state = 'ignored' AND f."ignoredUntil" <= now()))
  AND ${seenBefore} + 1 >= $needed::int
  AND ($graceSeconds::int = 0 OR (NOT ${isOver} AND f."firstSeenAt" <= now() - make_interval(secs => $graceSeconds::int)))`;

/** Makes the finding, or sees it again. Answers what clients are told of it, and whether it is open since now. */
const upsert = written<
  { isNew: boolean },
  Omit<Sighting, 'repair'> & {
    id: string;
    repair: string | null;
    needed: number;
    graceSeconds: number;
    location: string | null;
  }
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
const closeWhere = <Input>(condition: string) =>
  written<{ wasSaid: boolean }, Input>(
    `WITH over AS (
       SELECT f.id AS "overId", f.state <> 'sighted' AS "wasSaid" FROM "finding" f
       WHERE ${condition} AND f.state IN ('sighted', 'open', 'ignored') AND f."deletedAt" IS NULL FOR UPDATE)
     UPDATE "finding" f SET state = 'gone', "ignoredUntil" = NULL, "ignoreReason" = NULL, "updatedAt" = now(), revision = revision + 1
     FROM over WHERE f.id = over."overId" RETURNING over."wasSaid", ${toldColumns(kind)}`,
  );

const close = closeWhere<{ resourceKind: string; resourceIds: string[]; what: string[] | null }>(
  `f."resourceKind" = $resourceKind AND f."resourceId" = ANY($resourceIds::uuid[])
   AND ($what::text[] IS NULL OR f.what = ANY($what::text[]))`,
);

/** What a look at a whole place has not met since it began. Of what somebody was at work on it says nothing. */
const closeUnmet = closeWhere<Look & { busy: string[] }>(
  `f.system = $system AND f.what = ANY($what::text[]) AND ($location::text IS NULL OR f.location = $location)
   AND f."lastSeenAt" < $since::timestamptz AND f."resourceId" <> ALL($busy::uuid[])`,
);

const closeThere = closeWhere<{ locations: string[] }>(`f.location = ANY($locations::text[])`);

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
 * made or removed looks like a difference to whoever looks in between. With `graceSeconds` it must have been seen for so long, too: who looks
 * twice at the same moment has seen it once. It may be called in a transaction of the caller's.
 */
export async function see(tx: Queryable, sighting: Sighting, { needed = 1, graceSeconds = 0 } = {}): Promise<void> {
  const { location = null, repair = null, ...rest } = sighting;
  const [row] = await upsert(tx, {
    ...rest,
    id: crypto.randomUUID(),
    location,
    repair: repair && JSON.stringify(repair),
    needed,
    graceSeconds,
  });
  if (!row) return;
  const { isNew, ...found } = row;
  if (isNew) await tell(tx, 'opened', found);
}

/** Nothing of these is to be seen any more. What nobody has found changes nothing, so it may be said at any time. */
export async function seenNoMore(tx: Queryable, { resourceKind, resourceIds, what }: Scope): Promise<void> {
  if (resourceIds.length === 0) return;
  await tellGone(tx, await close(tx, { resourceKind, resourceIds, what: what ?? null }));
}

async function tellGone(tx: Queryable, over: ({ wasSaid: boolean } & Record<string, unknown>)[]): Promise<void> {
  for (const { wasSaid, ...found } of over) if (wasSaid) await tell(tx, 'gone', found);
}

/**
 * What a look at a whole place has found: `sightings` is all of it, and whatever else was found there before is over. `busy` are the ids of
 * resources that somebody is at work on, of which nothing can be said.
 */
export async function seeAll(tx: Queryable, look: Look, sightings: readonly Sighting[], busy: string[]): Promise<void> {
  if (sightings.length > 0) {
    const [grace] = await settingOf(tx, { name: 'audit.graceSeconds' });
    const graceSeconds = Number(grace?.value ?? 0);
    for (const sighting of sightings) await see(tx, sighting, { needed: 2, graceSeconds });
  }
  await tellGone(tx, await closeUnmet(tx, { ...look, busy }));
}

/** There is nothing to be looked at any more in these places. */
export async function closeAt(tx: Queryable, locations: string[]): Promise<void> {
  if (locations.length > 0) await tellGone(tx, await closeThere(tx, { locations }));
}

/** What would mend it. */
export const repairOf = written<
  { action: string | null; targetId: string | null; input: Record<string, unknown> },
  { id: string }
>(
  `SELECT f.repair->>'action' AS action, coalesce(f.repair->'input', '{}') AS input,
     CASE WHEN f.repair ? 'targetId' THEN (f.repair->>'targetId')::uuid ELSE f."resourceId" END AS "targetId"
   FROM "finding" f WHERE f.id = $id`,
);

/** How many are open, for the metric. */
export const openFindings = statement(() =>
  from
    .selectFrom('finding')
    .select((eb) => ['class', 'severity', eb.fn.countAll<string>().as('count')])
    .where('state', '=', 'open')
    .where('deletedAt', 'is', null)
    .groupBy(['class', 'severity']),
);
