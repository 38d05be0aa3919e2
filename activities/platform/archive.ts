/**
 * Operations, events and audit entries leave their tables when they are old, for a backup store, as lines of JSON, compressed. Nothing is removed that
 * does not lie there; without a store nothing is.
 */
import { createHash } from 'node:crypto';
import { promisify } from 'node:util';
import { gunzip, gzip } from 'node:zlib';
import { type Database, run, transaction } from '../../database/database.ts';
import { discard, get, type ObjectStore, openStore, openStores, put } from '../storage/objects.ts';

/** Rows that leave at once: few, so that nobody waits for them. */
export const archivedAtOnce = 1000;

interface Old {
  id: string;
  createdAt: string;
  sequence: string | null;
  hash: string | null;
  line: string;
}

/** An entry of the audit trail as its archive has it. */
export interface ArchivedEntry {
  sequence: number;
  previousHash: string;
  hash: string;
  /** What the hash covers. */
  content: string;
}

const hashOf = (content: Buffer | string): string => createHash('sha256').update(content).digest('hex');

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

const kinds: Record<string, Kept> = {
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

/** What was written to the store is not what the table holds any more: another has archived of it, or a row was changed. */
class Moved extends Error {}

/** Moves the oldest rows of each kind that are old enough; answers how many of the kind that had most. */
export async function archiveOld(database: Database): Promise<number> {
  const [store] = await openStores(database);
  if (!store) return 0;
  const counts: number[] = [];
  for (const [kind, of] of Object.entries(kinds)) counts.push(await archiveOldest(database, store, kind, of));
  return Math.max(...counts);
}

/**
 * Reads, writes to the store, and removes what it has read if that is all still there as it was read. In between it holds nothing: a store may take
 * its time. Of several that do the same at once one removes; the same rows make the same object, whoever writes it.
 */
async function archiveOldest(database: Database, store: ObjectStore, kind: string, of: Kept): Promise<number> {
  const { old, order, line } = of;
  const numbered = kind === 'operation' ? 'NULL' : 't.sequence::text';
  const rows = await run<Old>(
    database.pool,
    `SELECT t.id, to_char(t."createdAt" AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24-MI-SS.US"Z"') AS "createdAt", ${numbered} AS sequence,
            ${kind === 'auditEntry' ? 't.hash' : 'NULL'} AS hash, ${line} AS line
     FROM "${kind}" t WHERE ${old} ORDER BY ${order} LIMIT ${archivedAtOnce}`,
  );
  const [first] = rows;
  const last = rows.at(-1);
  if (!first || !last) return 0;
  const text = rows.map((row) => `${row.line}\n`).join('');
  const bytes = await promisify(gzip)(text);
  const sha256 = hashOf(bytes);
  const objectKey = `archive/${kind}/${first.createdAt}-${sha256.slice(0, 16)}.jsonl.gz`;
  await put(store, objectKey, bytes);
  const ids = rows.map(({ id }) => id);
  try {
    await transaction(database, async (tx) => {
      const [gone] = await run<{ same: boolean }>(
        tx,
        `WITH gone AS (DELETE FROM "${kind}" t WHERE t.id = ANY($1::uuid[]) AND ${old} RETURNING t.id, ${line} AS line)
         SELECT encode(sha256(convert_to(coalesce(string_agg(g.line || E'\n', '' ORDER BY o.place), ''), 'UTF8')), 'hex') = $2 AS same
         FROM gone g JOIN unnest($1::uuid[]) WITH ORDINALITY AS o(id, place) USING (id)`,
        [ids, hashOf(text)],
      );
      if (!gone?.same) throw new Moved();
      await run(
        tx,
        `INSERT INTO "archive" (id, kind, count, first, last, hash, "backupStoreId", "objectKey", sha256) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
        [crypto.randomUUID(), kind, rows.length, first.sequence, last.sequence, last.hash, store.id, objectKey, sha256],
      );
      // An operation's id stays taken for ever, as those of resources do.
      if (kind === 'operation')
        await run(
          tx,
          `WITH fences AS (DELETE FROM "stepFence" WHERE "operationId" = ANY($1::uuid[]))
           INSERT INTO "identity" (id, kind) SELECT id, 'operation' FROM unnest($1::uuid[]) AS id ON CONFLICT DO NOTHING`,
          [ids],
        );
    });
  } catch (error) {
    if (!(error instanceof Moved)) throw error;
    const [known] = await run(database.pool, 'SELECT 1 FROM "archive" WHERE "objectKey" = $1', [objectKey]);
    if (!known) await discard(store, objectKey);
    return 0;
  }
  return rows.length;
}

/** The lines of an archive. Throws when it is gone, or not as it was written. */
export async function readArchive(database: Database, id: string): Promise<unknown[]> {
  const [archive] = await run<{ backupStoreId: string; objectKey: string; sha256: string }>(
    database.pool,
    'SELECT "backupStoreId", "objectKey", sha256 FROM "archive" WHERE id = $1',
    [id],
  );
  if (!archive) throw new Error(`there is no archive ${id}`);
  const bytes = await get(await openStore(database, archive.backupStoreId), archive.objectKey);
  if (!bytes) throw new Error('it is gone from its store');
  if (hashOf(bytes) !== archive.sha256) throw new Error('it is not as it was written');
  const text = (await promisify(gunzip)(bytes)).toString('utf8');
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as unknown);
}

export const archivedEntries = async (database: Database, id: string): Promise<ArchivedEntry[]> =>
  (await readArchive(database, id)) as ArchivedEntry[];
