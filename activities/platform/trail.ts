/**
 * The chain of audit entries, what is told of it outside, and how both are compared. Each entry's hash covers the one before it, so nothing in the
 * middle can be changed or taken out unseen; notes of the head, signed and kept elsewhere, show where the tail was cut off or written anew.
 */
import { createHash, createPrivateKey, sign, verify, X509Certificate } from 'node:crypto';
import { type Database, run, transaction } from '../../database/database.ts';
import { instantAt } from '../../model/forms.ts';
import { openStores, put } from '../storage/objects.ts';
import { archivedEntries } from './archive.ts';
import { trailKey, trailName } from './credentials.ts';

/** Where the trail ended at a moment. So many entries had been sealed by then. */
export interface Head {
  sequence: number;
  hash: string;
  at: string;
}

/** A head with what proves that the platform itself said so. */
export interface Note extends Head {
  certificate: string;
  signature: string;
}

/** Gives up to a thousand entries their places in the chain; answers how many. */
export async function sealAudit(database: Database): Promise<number> {
  return transaction(database, async (tx) => {
    const [lock] = await run<{ mine: boolean }>(
      tx,
      `SELECT pg_try_advisory_xact_lock(hashtextextended('seal audit', 0)) AS mine`,
    );
    if (!lock?.mine) return 0;
    const [head] = await run<{ sequence: string; hash: string }>(
      tx,
      `SELECT a.sequence::text AS sequence, a.hash FROM "auditEntry" a WHERE a.sequence IS NOT NULL ORDER BY a.sequence DESC LIMIT 1`,
    );
    const fresh = await run<{ id: string; content: string }>(
      tx,
      `SELECT id, belay_audit_content(a) AS content FROM "auditEntry" a WHERE sequence IS NULL ORDER BY "createdAt", id LIMIT 1000`,
    );
    let sequence = Number(head?.sequence ?? 0);
    let previousHash = head?.hash ?? '';
    const sealed = fresh.map(({ id, content }) => {
      sequence += 1;
      const hash = hashOf({ sequence, previousHash, content });
      const row = { id, sequence, previousHash, hash };
      previousHash = hash;
      return row;
    });
    if (sealed.length > 0)
      await run(
        tx,
        `UPDATE "auditEntry" a SET sequence = s.sequence, "previousHash" = s."previousHash", hash = s.hash
         FROM jsonb_to_recordset($1::jsonb) AS s(id uuid, sequence bigint, "previousHash" text, hash text) WHERE a.id = s.id`,
        [JSON.stringify(sealed)],
      );
    return sealed.length;
  });
}

/** As `belay_audit_hash` computes it. */
export const hashOf = (entry: { sequence: number; previousHash: string; content: string }): string =>
  createHash('sha256').update(`${entry.sequence}\n${entry.previousHash}\n${entry.content}`).digest('hex');

const wordsOf = ({ sequence, hash, at }: Head): Buffer =>
  Buffer.from(`Belay audit trail\n${sequence}\n${hash}\n${at}\n`);

async function signed(database: Database, head: Head): Promise<Note> {
  const { certificate, key } = await trailKey(database);
  return { ...head, certificate, signature: sign('sha256', wordsOf(head), createPrivateKey(key)).toString('base64') };
}

/** Whether the authority behind this certificate stands behind a note. */
export function isGenuine(note: Note, caCertificate: string): boolean {
  try {
    const certificate = new X509Certificate(note.certificate);
    return (
      certificate.verify(new X509Certificate(caCertificate).publicKey) &&
      certificate.subject === `CN=${trailName}` &&
      verify('sha256', wordsOf(note), certificate.publicKey, Buffer.from(note.signature, 'base64'))
    );
  } catch {
    // It holds no certificate, or no signature, at all.
    return false;
  }
}

/** By time, so that a list of them is in order and two never have one name. */
const noteKey = ({ at, sequence }: Head): string => `trail/${at.replaceAll(':', '-')}-${sequence}.json`;

/**
 * Signs the head, when it has moved and the last note is older than the setting says, and hands the note to whoever tells it; then brings notes
 * to the stores that do not lie there yet. Without a store they wait for one. A last note that the trail does not hold any more is told of as lost.
 * Answers whether there was a new one.
 */
export async function noteHead(
  database: Database,
  tell: (note: Note) => void,
  lost: (note: Note) => void = () => {},
): Promise<boolean> {
  const [gone] = await run<{ note: Note }>(
    database.pool,
    `SELECT n.note FROM "auditNote" n WHERE n.sequence = (SELECT max(m.sequence) FROM "auditNote" m)
       AND NOT EXISTS (SELECT 1 FROM "auditEntry" a WHERE a.sequence = n.sequence AND a.hash = n.note->>'hash')
       AND NOT EXISTS (SELECT 1 FROM "archive" r WHERE r.kind = 'auditEntry' AND r.last >= n.sequence)`,
  );
  if (gone) lost(gone.note);
  const [head] = await run<{ sequence: string; hash: string }>(
    database.pool,
    `SELECT a.sequence::text AS sequence, a.hash FROM "auditEntry" a WHERE a.sequence > coalesce((SELECT max(n.sequence) FROM "auditNote" n), 0)
       AND NOT EXISTS (SELECT 1 FROM "auditNote" n, "setting" s WHERE s.name = 'trail.noteSeconds' AND n.at > now() - make_interval(secs => (s.value #>> '{}')::int))
     ORDER BY a.sequence DESC LIMIT 1`,
  );
  let fresh = false;
  if (head) {
    const note = await signed(database, { sequence: Number(head.sequence), hash: head.hash, at: instantAt() });
    const written = await run(
      database.pool,
      `INSERT INTO "auditNote" (sequence, at, note) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING RETURNING 1`,
      [note.sequence, note.at, JSON.stringify(note)],
    );
    fresh = written.length > 0;
    if (fresh) tell(note);
  }
  const waiting = await run<{ sequence: string; note: Note }>(
    database.pool,
    `SELECT sequence::text AS sequence, note FROM "auditNote" WHERE NOT stored ORDER BY sequence LIMIT 100`,
  );
  const stores = waiting.length > 0 ? await openStores(database) : [];
  if (stores.length === 0) return fresh;
  for (const { sequence, note } of waiting) {
    for (const store of stores) await put(store, noteKey(note), Buffer.from(`${JSON.stringify(note)}\n`));
    await run(database.pool, `UPDATE "auditNote" SET stored = true WHERE sequence = $1`, [sequence]);
  }
  return fresh;
}

/** What is wrong with the trail: nothing, when it is whole and still holds all that the notes say. */
export async function wrongInTrail(database: Database, notes: readonly Note[]): Promise<string[]> {
  const breaks = await run<{ sequence: string; id: string; fault: string }>(
    database.pool,
    'SELECT sequence::text AS sequence, id, fault FROM belay_audit_breaks()',
  );
  const wrong = breaks.map(({ sequence, id, fault }) => `entry ${sequence} (${id}): ${fault}`);
  const { caCertificate } = await trailKey(database);
  for (const note of notes) {
    const name = `the note of ${note.at} on entry ${note.sequence}`;
    if (!isGenuine(note, caCertificate)) wrong.push(`${name} is not signed by this installation`);
    else {
      const hash = await hashAt(database, note.sequence);
      if (hash === null) wrong.push(`${name}: the trail has no such entry any more`);
      else if (hash !== note.hash) wrong.push(`${name}: the trail has another entry there now`);
    }
  }
  return wrong;
}

/** The hash of an entry, in the table or in an archive. */
async function hashAt(database: Database, sequence: number): Promise<string | null> {
  const [entry] = await run<{ hash: string }>(database.pool, 'SELECT hash FROM "auditEntry" WHERE sequence = $1', [
    sequence,
  ]);
  if (entry) return entry.hash;
  const [archive] = await run<{ id: string }>(
    database.pool,
    `SELECT id FROM "archive" WHERE kind = 'auditEntry' AND $1 BETWEEN first AND last`,
    [sequence],
  );
  const archived = archive ? await archivedEntries(database, archive.id) : [];
  return archived.find((one) => one.sequence === sequence)?.hash ?? null;
}

/** What is wrong with the archives of the trail: each must be as it was written, and go on where the one before it ends. */
export async function wrongInArchives(database: Database): Promise<string[]> {
  const archives = await run<{ id: string; first: string; last: string; hash: string; objectKey: string }>(
    database.pool,
    `SELECT id, first::text AS first, last::text AS last, hash, "objectKey" FROM "archive" WHERE kind = 'auditEntry' ORDER BY last`,
  );
  const wrong: string[] = [];
  let place = 0;
  let before = '';
  for (const { id, last, hash, objectKey } of archives) {
    try {
      for (const entry of await archivedEntries(database, id)) {
        if (entry.sequence !== place + 1 || entry.previousHash !== before || entry.hash !== hashOf(entry))
          wrong.push(`${objectKey}: entry ${entry.sequence} does not follow entry ${place}`);
        place = entry.sequence;
        before = entry.hash;
      }
    } catch (error) {
      wrong.push(`${objectKey}: ${error instanceof Error ? error.message : String(error)}`);
    }
    if (String(place) !== last || before !== hash) wrong.push(`${objectKey} does not end with entry ${last}`);
    place = Number(last);
    before = hash;
  }
  return wrong;
}
