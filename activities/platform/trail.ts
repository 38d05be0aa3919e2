/**
 * The chain of audit entries, what is told of it outside, and how both are compared. Each entry's hash covers the one before it, so nothing in the
 * middle can be changed or taken out unseen; notes of the head, signed and kept elsewhere, show where the tail was cut off or written anew.
 */
import { createHash, createPrivateKey, sign, verify, X509Certificate } from 'node:crypto';
import { type Database, transaction } from '../../database/database.ts';
import {
  archivesOfTrail,
  archiveWith,
  breaksInTrail,
  entryAt,
  headOfTrail,
  headToNote,
  lostNote,
  noteStored,
  oneAuditSealer,
  seal,
  unsealed,
  unstoredNotes,
  writeNote,
} from '../../database/trail.ts';
import { instantAt } from '../../model/forms.ts';
import { openStores } from '../storage/stores/index.ts';
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
    const [lock] = await oneAuditSealer(tx);
    if (!lock?.mine) return 0;
    const [head] = await headOfTrail(tx);
    const fresh = await unsealed(tx);
    let sequence = Number(head?.sequence ?? 0);
    let previousHash = head?.hash ?? '';
    const sealed = fresh.map(({ id, content }) => {
      sequence += 1;
      const hash = hashOf({ sequence, previousHash, content });
      const row = { id, sequence, previousHash, hash };
      previousHash = hash;
      return row;
    });
    if (sealed.length > 0) await seal(tx, { sealed: JSON.stringify(sealed) });
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
  const [gone] = await lostNote(database.connections);
  if (gone) lost(gone.note as Note);
  const [head] = await headToNote(database.connections);
  let fresh = false;
  if (head) {
    const note = await signed(database, { sequence: Number(head.sequence), hash: head.hash, at: instantAt() });
    const written = await writeNote(database.connections, {
      sequence: note.sequence,
      at: note.at,
      note: JSON.stringify(note),
    });
    fresh = written.length > 0;
    if (fresh) tell(note);
  }
  const waiting = await unstoredNotes(database.connections);
  const stores = waiting.length > 0 ? await openStores(database) : [];
  if (stores.length === 0) return fresh;
  for (const { sequence, note } of waiting as { sequence: string; note: Note }[]) {
    for (const store of stores) await store.put(noteKey(note), Buffer.from(`${JSON.stringify(note)}\n`));
    await noteStored(database.connections, { sequence });
  }
  return fresh;
}

/** What is wrong with the trail: nothing, when it is whole and still holds all that the notes say. */
export async function wrongInTrail(database: Database, notes: readonly Note[]): Promise<string[]> {
  const breaks = await breaksInTrail(database.connections);
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
  const [entry] = await entryAt(database.connections, { sequence: String(sequence) });
  if (entry) return entry.hash;
  const [archive] = await archiveWith(database.connections, { sequence: String(sequence) });
  const archived = archive ? await archivedEntries(database, archive.id) : [];
  return archived.find((one) => one.sequence === sequence)?.hash ?? null;
}

/** What is wrong with the archives of the trail: each must be as it was written, and go on where the one before it ends. */
export async function wrongInArchives(database: Database): Promise<string[]> {
  const archives = await archivesOfTrail(database.connections);
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
