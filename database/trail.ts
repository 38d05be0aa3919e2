/** The audit trail as a chain: entries get their places, and notes say how far it reaches. */
import { from, statement, type Values, written } from './statement.ts';

export const oneAuditSealer = written<{ mine: boolean }>(
  `SELECT pg_try_advisory_xact_lock(hashtextextended('seal audit', 0)) AS mine`,
);

export const headOfTrail = written<{ sequence: string; hash: string }>(
  `SELECT a.sequence::text AS sequence, a.hash FROM "auditEntry" a WHERE a.sequence IS NOT NULL ORDER BY a.sequence DESC LIMIT 1`,
);

/** Entries that have no place yet, with what the hash of each covers. */
export const unsealed = written<{ id: string; content: string }>(
  `SELECT id, belay_audit_content(a) AS content FROM "auditEntry" a WHERE sequence IS NULL ORDER BY "createdAt", id LIMIT 1000`,
);

/** `sealed` is JSON: `[{id, sequence, previousHash, hash}]`. */
export const seal = written<never, { sealed: string }>(
  `UPDATE "auditEntry" a SET sequence = s.sequence, "previousHash" = s."previousHash", hash = s.hash
   FROM jsonb_to_recordset($sealed::jsonb) AS s(id uuid, sequence bigint, "previousHash" text, hash text) WHERE a.id = s.id`,
);

/** The last note, where neither the table nor an archive has the entry that it tells of. */
export const lostNote = written<{ note: unknown }>(
  `SELECT n.note FROM "auditNote" n WHERE n.sequence = (SELECT max(m.sequence) FROM "auditNote" m)
     AND NOT EXISTS (SELECT 1 FROM "auditEntry" a WHERE a.sequence = n.sequence AND a.hash = n.note->>'hash')
     AND NOT EXISTS (SELECT 1 FROM "archive" r WHERE r.kind = 'auditEntry' AND r.last >= n.sequence)`,
);

/** The newest entry, where it is to be noted: it is behind the last note, and that was long enough ago. */
export const headToNote = written<{ sequence: string; hash: string }>(
  `SELECT a.sequence::text AS sequence, a.hash FROM "auditEntry" a WHERE a.sequence > coalesce((SELECT max(n.sequence) FROM "auditNote" n), 0)
     AND NOT EXISTS (SELECT 1 FROM "auditNote" n, "setting" s WHERE s.name = 'trail.noteSeconds' AND n.at > now() - make_interval(secs => (s.value #>> '{}')::int))
   ORDER BY a.sequence DESC LIMIT 1`,
);

export const writeNote = statement((p: Values<{ sequence: number; at: string; note: string }>) =>
  from
    .insertInto('auditNote')
    .values({ sequence: p.sequence, at: p.at, note: p.note })
    .onConflict((at) => at.doNothing())
    .returning('sequence'),
);

export const unstoredNotes = statement(() =>
  from.selectFrom('auditNote').select(['sequence', 'note']).where('stored', '=', false).orderBy('sequence').limit(100),
);

export const noteStored = statement((p: Values<{ sequence: string }>) =>
  from.updateTable('auditNote').set({ stored: true }).where('sequence', '=', p.sequence),
);

/** Where the chain is broken. */
export const breaksInTrail = written<{ sequence: string; id: string; fault: string }>(
  'SELECT sequence::text AS sequence, id, fault FROM belay_audit_breaks()',
);

export const entryAt = statement((p: Values<{ sequence: string }>) =>
  from.selectFrom('auditEntry').select('hash').where('sequence', '=', p.sequence),
);

/** The archive of the trail that holds an entry. */
export const archiveWith = statement((p: Values<{ sequence: string }>) =>
  from
    .selectFrom('archive')
    .select('id')
    .where('kind', '=', 'auditEntry')
    .where('first', '<=', p.sequence)
    .where('last', '>=', p.sequence),
);

export const archivesOfTrail = statement(() =>
  from
    .selectFrom('archive')
    .select(['id', 'first', 'last', 'hash', 'objectKey'])
    .where('kind', '=', 'auditEntry')
    .orderBy('archive.last')
    .$narrowType<{ first: string; last: string; hash: string }>(),
);
