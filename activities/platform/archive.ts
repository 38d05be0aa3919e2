/**
 * Operations, events and audit entries leave their tables when they are old, for a backup store, as lines of JSON, compressed. Nothing is removed that
 * does not lie there; without a store nothing is.
 */
import { createHash } from 'node:crypto';
import { promisify } from 'node:util';
import { gunzip, gzip } from 'node:zlib';
import {
  type Archived,
  archiveAt,
  archiveById,
  archived,
  keepIdsOfOperations,
  noteArchive,
} from '../../database/archive.ts';
import { type Database, transaction } from '../../database/database.ts';
import { type ObjectStore, openStore, openStores } from '../storage/stores/index.ts';

/** An entry of the audit trail as its archive has it. */
export interface ArchivedEntry {
  sequence: number;
  previousHash: string;
  hash: string;
  /** What the hash covers. */
  content: string;
}

const hashOf = (content: Buffer | string): string => createHash('sha256').update(content).digest('hex');

/** What was written to the store is not what the table holds any more: another has archived of it, or a row was changed. */
class Moved extends Error {}

/** Moves the oldest rows of each kind that are old enough; answers how many of the kind that had most. */
export async function archiveOld(database: Database): Promise<number> {
  const [store] = await openStores(database);
  if (!store) return 0;
  const counts: number[] = [];
  for (const of of archived) counts.push(await archiveOldest(database, store, of));
  return Math.max(...counts);
}

/**
 * Reads, writes to the store, and removes what it has read if that is all still there as it was read. In between it holds nothing: a store may take
 * its time. Of several that do the same at once one removes; the same rows make the same object, whoever writes it.
 */
async function archiveOldest(database: Database, store: ObjectStore, of: Archived): Promise<number> {
  const { kind } = of;
  const rows = await of.oldest(database.connections);
  const [first] = rows;
  const last = rows.at(-1);
  if (!first || !last) return 0;
  const text = rows.map((row) => `${row.line}\n`).join('');
  const bytes = await promisify(gzip)(text);
  const sha256 = hashOf(bytes);
  const objectKey = `archive/${kind}/${first.createdAt}-${sha256.slice(0, 16)}.jsonl.gz`;
  await store.put(objectKey, bytes);
  const ids = rows.map(({ id }) => id);
  try {
    await transaction(database, async (tx) => {
      const [gone] = await of.remove(tx, { ids, hash: hashOf(text) });
      if (!gone?.same) throw new Moved();
      await noteArchive(tx, {
        id: crypto.randomUUID(),
        kind,
        count: rows.length,
        first: first.sequence,
        last: last.sequence,
        hash: last.hash,
        backupStoreId: store.id,
        objectKey,
        sha256,
      });
      if (kind === 'operation') await keepIdsOfOperations(tx, { ids });
    });
  } catch (error) {
    if (!(error instanceof Moved)) throw error;
    const [known] = await archiveAt(database.connections, { objectKey });
    if (!known) await store.discard(objectKey);
    return 0;
  }
  return rows.length;
}

/** The lines of an archive. Throws when it is gone, or not as it was written. */
export async function readArchive(database: Database, id: string): Promise<unknown[]> {
  const [archive] = await archiveById(database.connections, { id });
  if (!archive) throw new Error(`there is no archive ${id}`);
  const bytes = await (await openStore(database, archive.backupStoreId)).get(archive.objectKey);
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
