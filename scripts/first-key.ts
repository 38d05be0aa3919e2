/**
 * `node scripts/first-key.ts`: prints the first API key of the administrator, once. Brings the database at `DATABASE_URL` up to
 * date before, so that it may run before any server does. Prints nothing and ends with 1 when the administrator has a key already.
 */
import { openDatabase } from '../database/database.ts';
import { ensureFirstKey, ensureInstallation } from '../database/installation.ts';
import { migrate } from '../prisma/migrate.ts';
import { config } from '../runtime/config.ts';

if (config.databaseUrl === '') {
  console.error('DATABASE_URL is not set; expected something like postgres://belay:…@db.example.net/belay');
  process.exit(2);
}
await migrate(config.databaseUrl, (line) => console.error(line));
const database = openDatabase(config.databaseUrl, 1);
try {
  await ensureInstallation(database);
  const token = await ensureFirstKey(database);
  if (token) console.log(token);
  else {
    console.error('the administrator has an enabled API key already; make further ones with: belay api-keys create');
    process.exitCode = 1;
  }
} finally {
  await database.close();
}
