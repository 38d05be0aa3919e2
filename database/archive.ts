/** Records that leave their table for the backup stores. */
import { from, statement, type Values, written } from './statement.ts';

/** Rows that leave at once: few, so that nobody waits for them. */
export const archivedAtOnce = 1000;

export interface OldRow {
  id: string;
  createdAt: string;
  sequence: string | null;
  hash: string | null;
  line: string;
}

const olderThan = (moment: string, setting: string): string =>
  `${moment} < now() - make_interval(secs => (SELECT (s.value #>> '{}')::bigint FROM "setting" s WHERE s.name = '${setting}'))`;
/** In the order of the chain, and of the stream: what leaves is all that came before what stays. The newest stays, for the next one to follow. */
const fromTheFront = (kind: string, setting: string): string =>
  `t.sequence < (SELECT coalesce(min(y.sequence), 0) FROM "${kind}" y WHERE y.sequence IS NOT NULL
     AND (NOT (${olderThan('y."createdAt"', setting)}) OR y.sequence = (SELECT max(z.sequence) FROM "${kind}" z)))`;

/** Which rows of a kind are old, in which order they leave, and what of one is kept. */
interface Kept {
  old: string;
  order: string;
  line: string;
}

const kept: Record<string, Kept> = {
  operation: {
    // None ends before it is asked for: that alone is in an index.
    old: `${olderThan('t."createdAt"', 'archive.operationSeconds')} AND ${olderThan('t."endedAt"', 'archive.operationSeconds')}
      AND NOT EXISTS (SELECT 1 FROM "callback" c WHERE c."operationId" = t.id) AND NOT EXISTS (SELECT 1 FROM "operationLock" l WHERE l."operationId" = t.id)`,
    order: 't."createdAt", t.id',
    line: 'row_to_json(t)::text',
  },
  event: { old: fromTheFront('event', 'archive.eventSeconds'), order: 't.sequence', line: 'row_to_json(t)::text' },
  auditEntry: {
    old: fromTheFront('auditEntry', 'archive.auditEntrySeconds'),
    order: 't.sequence',
    line: `(to_jsonb(t) || jsonb_build_object('content', belay_audit_content(t)))::text`,
  },
};

const archiveOf = (kind: string, { old, order, line }: Kept) => ({
  kind,
  /** The oldest that are old enough, in the order in which they leave. */
  oldest: written<OldRow>(
    `SELECT t.id, to_char(t."createdAt" AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24-MI-SS.US"Z"') AS "createdAt", ${kind === 'operation' ? 'NULL' : 't.sequence::text'} AS sequence,
            ${kind === 'auditEntry' ? 't.hash' : 'NULL'} AS hash, ${line} AS line
     FROM "${kind}" t WHERE ${old} ORDER BY ${order} LIMIT ${archivedAtOnce}`,
  ),
  /** Removes them, and answers whether they were as they were read: by the hash of their lines. */
  remove: written<{ same: boolean }, { ids: string[]; hash: string }>(
    `WITH gone AS (DELETE FROM "${kind}" t WHERE t.id = ANY($ids::uuid[]) AND ${old} RETURNING t.id, ${line} AS line)
     SELECT encode(sha256(convert_to(coalesce(string_agg(g.line || E'\\n', '' ORDER BY o.place), ''), 'UTF8')), 'hex') = $hash AS same
     FROM gone g JOIN unnest($ids::uuid[]) WITH ORDINALITY AS o(id, place) USING (id)`,
  ),
});

export type Archived = ReturnType<typeof archiveOf>;

/** Of each kind that is archived, its statements. */
export const archived: readonly Archived[] = Object.entries(kept).map(([kind, of]) => archiveOf(kind, of));

export const noteArchive = statement(
  (
    p: Values<{
      id: string;
      kind: string;
      count: number;
      first: string | null;
      last: string | null;
      hash: string | null;
      backupStoreId: string;
      objectKey: string;
      sha256: string;
    }>,
  ) =>
    from.insertInto('archive').values({
      id: p.id,
      kind: p.kind,
      count: p.count,
      first: p.first,
      last: p.last,
      hash: p.hash,
      backupStoreId: p.backupStoreId,
      objectKey: p.objectKey,
      sha256: p.sha256,
    }),
);

/** An operation's id stays taken for ever, as those of resources do. */
export const keepIdsOfOperations = written<never, { ids: string[] }>(
  `WITH fences AS (DELETE FROM "stepFence" WHERE "operationId" = ANY($ids::uuid[]))
   INSERT INTO "identity" (id, kind) SELECT id, 'operation' FROM unnest($ids::uuid[]) AS id ON CONFLICT DO NOTHING`,
);

export const archiveAt = statement((p: Values<{ objectKey: string }>) =>
  from.selectFrom('archive').select('id').where('objectKey', '=', p.objectKey),
);

export const archiveById = statement((p: Values<{ id: string }>) =>
  from.selectFrom('archive').select(['backupStoreId', 'objectKey', 'sha256']).where('id', '=', p.id),
);
