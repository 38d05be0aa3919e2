/**
 * Operations, events and audit entries leave their tables when they are old, for a backup store, as lines of JSON, compressed. Nothing is removed that
 * does not lie there; without a store nothing is.
 */
import { createHash } from 'node:crypto';
import { promisify } from 'node:util';
import { gunzip, gzip } from 'node:zlib';
import { type Database, run, transaction } from '../../database/database.ts';
import { get, openStore, openStores, put } from '../storage/objects.ts';

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

const olderThan = (moment: string, setting: string): string =>
  `${moment} < now() - make_interval(secs => (SELECT (s.value #>> '{}')::bigint FROM "setting" s WHERE s.name = '${setting}'))`;
/** In the order of the chain, and of the stream: what leaves is all that came before what stays. The newest stays, for the next one to follow. */
const fromTheFront = (kind: string, setting: string): string =>
  `t.sequence < (SELECT coalesce(min(y.sequence), 0) FROM "${kind}" y WHERE y.sequence IS NOT NULL
     AND (NOT (${olderThan('y."createdAt"', setting)}) OR y.sequence = (SELECT max(z.sequence) FROM "${kind}" z)))`;

/** Which rows of a kind are old, in which order they leave, and what of one is kept. */
const kinds: Record<string, { old: string; order: string; line: string }> = {
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

/** Moves the oldest rows of each kind that are old enough; answers how many of the kind that had most. */
export async function archiveOld(database: Database): Promise<number> {
  const [store] = await openStores(database);
  if (!store) return 0;
  const counts: number[] = [];
  for (const [kind, { old, order, line }] of Object.entries(kinds))
    counts.push(
      await transaction(database, async (tx) => {
        const [lock] = await run<{ mine: boolean }>(
          tx,
          'SELECT pg_try_advisory_xact_lock(hashtextextended($1, 0)) AS mine',
          [`archive ${kind}`],
        );
        if (!lock?.mine) return 0;
        const numbered = kind === 'operation' ? 'NULL' : 't.sequence::text';
        const rows = await run<Old>(
          tx,
          `SELECT t.id, to_char(t."createdAt" AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24-MI-SS.US"Z"') AS "createdAt", ${numbered} AS sequence,
                  ${kind === 'auditEntry' ? 't.hash' : 'NULL'} AS hash, ${line} AS line
           FROM "${kind}" t WHERE ${old} ORDER BY ${order} LIMIT ${archivedAtOnce}`,
        );
        const [first] = rows;
        const last = rows.at(-1);
        if (!first || !last) return 0;
        const bytes = await promisify(gzip)(rows.map((row) => `${row.line}\n`).join(''));
        const sha256 = createHash('sha256').update(bytes).digest('hex');
        const objectKey = `archive/${kind}/${first.createdAt}-${sha256.slice(0, 16)}.jsonl.gz`;
        await put(store, objectKey, bytes);
        await run(
          tx,
          `INSERT INTO "archive" (id, kind, count, first, last, hash, "backupStoreId", "objectKey", sha256) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
          [
            crypto.randomUUID(),
            kind,
            rows.length,
            first.sequence,
            last.sequence,
            last.hash,
            store.id,
            objectKey,
            sha256,
          ],
        );
        const ids = rows.map(({ id }) => id);
        // An operation's id stays taken for ever, as those of resources do.
        if (kind === 'operation')
          await run(
            tx,
            `INSERT INTO "identity" (id, kind) SELECT id, 'operation' FROM unnest($1::uuid[]) AS id ON CONFLICT DO NOTHING`,
            [ids],
          );
        await run(tx, `DELETE FROM "${kind}" WHERE id = ANY($1::uuid[])`, [ids]);
        return rows.length;
      }),
    );
  return Math.max(...counts);
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
  if (createHash('sha256').update(bytes).digest('hex') !== archive.sha256)
    throw new Error('it is not as it was written');
  const text = (await promisify(gunzip)(bytes)).toString('utf8');
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as unknown);
}

export const archivedEntries = async (database: Database, id: string): Promise<ArchivedEntry[]> =>
  (await readArchive(database, id)) as ArchivedEntry[];
