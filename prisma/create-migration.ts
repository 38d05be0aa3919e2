/** Writes the next migration: the difference between what the migrations make and what `schema.prisma` wants. */
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ensureDatabase, startPostgres } from '../postgres/embedded.ts';
import { freePort } from '../postgres/owned-process.ts';
import { migrate } from './migrate.ts';

const PROJECT_DIR = dirname(dirname(fileURLToPath(import.meta.url)));
const LOCK_FILE = 'provider = "postgresql"\n';

export interface CreateMigrationOptions {
  /** Directory with the schema and the `migrations` folder; this one unless told. */
  prismaDir?: string;
  /** What a database with the present migrations lacks and the schema can not say, as statements. */
  besides?: (databaseUrl: string) => Promise<string[]>;
  log?: (line: string) => void;
}

/**
 * Makes the folder `migrations/<UTC time>_<name>` with the SQL and returns its path, or undefined when nothing has
 * changed. Starts a throw-away PostgreSQL to replay the present migrations in; no other database is touched.
 *
 * Read the SQL before committing it: what a schema can not express (triggers, functions) is added there by hand.
 * Throws when the schema is invalid or a present migration fails.
 */
export async function createMigration(
  name: string,
  { prismaDir = join(PROJECT_DIR, 'prisma'), besides = async () => [], log = () => {} }: CreateMigrationOptions = {},
): Promise<string | undefined> {
  if (!/^[a-z0-9_]+$/.test(name)) {
    throw new Error(
      `a migration's name has small letters, digits and underscores only, such as add_volumes, not "${name}"`,
    );
  }
  const migrationsDir = join(prismaDir, 'migrations');
  mkdirSync(migrationsDir, { recursive: true });
  const lockFile = join(migrationsDir, 'migration_lock.toml');
  if (!existsSync(lockFile)) writeFileSync(lockFile, LOCK_FILE);

  const scratchDir = mkdtempSync(join(tmpdir(), 'belay-migration-'));
  try {
    const postgres = await startPostgres({
      dir: scratchDir,
      port: await freePort(),
      settings: { fsync: 'off', shared_buffers: '32MB' },
    });
    let script: string;
    let further: string[];
    try {
      log('comparing the migrations with the schema');
      script = await diff(postgres.url(), migrationsDir, join(prismaDir, 'schema.prisma'));
      const migrated = await ensureDatabase(postgres.url(), 'migrated');
      await migrate(migrated, () => {}, migrationsDir);
      further = await besides(migrated);
    } finally {
      await postgres.stop();
    }
    const parts = [
      ...(script.includes('-- This is an empty migration.') ? [] : [script]),
      ...further.map((statement) => `${statement};\n`),
    ];
    if (parts.length === 0) return undefined;
    const timestamp = new Date().toISOString().replace(/\D/g, '').slice(0, 14);
    const folder = join(migrationsDir, `${timestamp}_${name}`);
    mkdirSync(folder);
    writeFileSync(join(folder, 'migration.sql'), parts.join('\n'));
    return folder;
  } finally {
    rmSync(scratchDir, { recursive: true, force: true });
  }
}

function diff(databaseUrl: string, migrationsDir: string, schema: string): Promise<string> {
  const prisma = join(dirname(createRequire(import.meta.url).resolve('prisma/package.json')), 'build/index.js');
  const args = [prisma, 'migrate', 'diff', '--script', '--from-migrations', migrationsDir, '--to-schema', schema];
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, args, {
      cwd: PROJECT_DIR,
      env: { ...process.env, DATABASE_URL: databaseUrl, PRISMA_HIDE_UPDATE_MESSAGE: '1' },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let script = '';
    let errors = '';
    child.stdout.on('data', (chunk: Buffer) => {
      script += chunk.toString();
    });
    child.stderr.on('data', (chunk: Buffer) => {
      errors += chunk.toString();
    });
    child.once('error', reject);
    child.once('close', (code) => {
      // Whatever ends the engine early, the prisma command may still end with 0: an answer is never empty.
      if (code === 0 && script.trim() !== '') resolve(script);
      else reject(new Error(`"prisma migrate diff" ended with exit code ${code}:\n${errors.trim()}`));
    });
  });
}
