/**
 * `node scripts/verify-trail.ts [file …]`: whether the audit trail is whole, and still holds all that notes of its head say. The files hold notes, or
 * lines of the log with notes among them; those that the database itself keeps are always asked too. With `--archives` what has left the database is
 * read from its backup stores and checked as well. Prints what is wrong, and ends with 1 then.
 */
import { readFileSync } from 'node:fs';
import { type Note, wrongInArchives, wrongInTrail } from '../activities/platform/trail.ts';
import { openDatabase, rowsOf } from '../database/database.ts';
import { config } from '../runtime/config.ts';

if (config.databaseUrl === '') {
  console.error('DATABASE_URL is not set; expected something like postgres://belay:…@db.example.net/belay');
  process.exit(2);
}
const files = process.argv.slice(2).filter((name) => name !== '--archives');

/** A note, or a line of the log that tells one. */
function noteIn(line: string): Note[] {
  if (!line.includes('"signature"')) return [];
  const told = JSON.parse(line) as Note & { note?: Note };
  return [told.note ?? told];
}

const database = openDatabase(config.databaseUrl, 2);
try {
  const kept = await rowsOf<{ note: Note }>(database.connections, 'SELECT note FROM "auditNote" ORDER BY sequence');
  const notes = [
    ...kept.map(({ note }) => note),
    ...files.flatMap((file) => readFileSync(file, 'utf8').split('\n').flatMap(noteIn)),
  ];
  const wrong = [
    ...(await wrongInTrail(database, notes)),
    ...(process.argv.includes('--archives') ? await wrongInArchives(database) : []),
  ];
  for (const line of wrong) console.log(line);
  console.log(
    wrong.length === 0 ? `the audit trail is whole, and holds all ${notes.length} notes` : `${wrong.length} faults`,
  );
  if (wrong.length > 0) process.exitCode = 1;
} finally {
  await database.close();
}
