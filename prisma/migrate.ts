/**
 * Brings the database to the newest migration when a process starts. Writes the same records as the `prisma` command,
 * which can be used on the same database at any time.
 */
import { createHash, randomUUID } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { postgresConnection } from '../runtime/postgresConnection.ts';

/** The key that the `prisma` command locks as well. */
const ADVISORY_LOCK_KEY = 72707369;
/** How long another process may migrate before this one gives up. */
const LOCK_TIMEOUT = '10min';
const MIGRATIONS_DIR = fileURLToPath(new URL('./migrations', import.meta.url));

const CREATE_RECORDS = `CREATE TABLE IF NOT EXISTS _prisma_migrations (
    id                      VARCHAR(36) PRIMARY KEY NOT NULL,
    checksum                VARCHAR(64) NOT NULL,
    finished_at             TIMESTAMPTZ,
    migration_name          VARCHAR(255) NOT NULL,
    logs                    TEXT,
    rolled_back_at          TIMESTAMPTZ,
    started_at              TIMESTAMPTZ NOT NULL DEFAULT now(),
    applied_steps_count     INTEGER NOT NULL DEFAULT 0
)`;

interface Migration {
  name: string;
  script: string;
  checksum: string;
}

interface MigrationRecord {
  migration_name: string;
  checksum: string;
  finished_at: Date | null;
}

/**
 * Applies the migrations that the database does not have yet, each in one transaction, and returns their names.
 * Two processes may call it at once: the second waits and finds nothing left to do.
 *
 * Never undoes or repairs anything. Throws when a migration fails (nothing of it remains), when an applied one was
 * changed afterwards, or when the database has one that this version of the code does not know.
 */
export async function migrate(
  databaseUrl: string,
  log: (line: string) => void = () => {},
  migrationsDir: string = MIGRATIONS_DIR,
): Promise<string[]> {
  const migrations = readMigrations(migrationsDir);
  const client = new pg.Client({ ...postgresConnection(databaseUrl)(), options: '-c timezone=UTC' });
  await client.connect();
  try {
    // A session's lock: it ends with the connection, whatever happens in between.
    await client.query(`SET lock_timeout = '${LOCK_TIMEOUT}'`);
    await client.query('SELECT pg_advisory_lock($1)', [ADVISORY_LOCK_KEY]);
    await client.query('RESET lock_timeout');
    await client.query(CREATE_RECORDS);
    const { rows: records } = await client.query<MigrationRecord>(
      'SELECT migration_name, checksum, finished_at FROM _prisma_migrations WHERE rolled_back_at IS NULL',
    );
    const pending = pendingMigrations(migrations, records);
    for (const migration of pending) {
      await apply(client, migration);
      log(`applied migration ${migration.name}`);
    }
    return pending.map(({ name }) => name);
  } finally {
    await client.end();
  }
}

function readMigrations(dir: string): Migration[] {
  return readdirSync(dir, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => name)
    .sort()
    .map((name) => {
      const script = readFileSync(join(dir, name, 'migration.sql'), 'utf8');
      return { name, script, checksum: createHash('sha256').update(script).digest('hex') };
    });
}

function pendingMigrations(migrations: readonly Migration[], records: readonly MigrationRecord[]): Migration[] {
  const known = new Map(migrations.map((migration) => [migration.name, migration]));
  for (const { migration_name: name, checksum, finished_at } of records) {
    const migration = known.get(name);
    if (migration === undefined) {
      throw new Error(
        `the database has migration ${name}, which this version of Belay does not know; run the newer one`,
      );
    }
    if (finished_at === null) {
      throw new Error(`migration ${name} was left unfinished; see "npx prisma migrate resolve --help"`);
    }
    if (migration.checksum !== checksum) {
      throw new Error(
        `migration ${name} was changed after the database had applied it; undo the change, or empty the database`,
      );
    }
  }
  const applied = new Set(records.map(({ migration_name }) => migration_name));
  return migrations.filter(({ name }) => !applied.has(name));
}

/** The record is part of the migration's own transaction, so that a crash can not part the two. */
async function apply(client: pg.Client, { name, script, checksum }: Migration): Promise<void> {
  try {
    await client.query('BEGIN');
    await client.query(script);
    await client.query(
      `INSERT INTO _prisma_migrations (id, checksum, migration_name, finished_at, applied_steps_count)
       VALUES ($1, $2, $3, clock_timestamp(), 1)`,
      [randomUUID(), checksum, name],
    );
    await client.query('COMMIT');
  } catch (error) {
    await client.query('ROLLBACK').catch(() => {});
    throw new Error(`migration ${name} failed: ${error instanceof Error ? error.message : String(error)}`, {
      cause: error,
    });
  }
}
