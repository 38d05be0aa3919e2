import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { TestProject } from 'vitest/node';
import { ensureDatabase, startPostgres } from '../../postgres/embedded.ts';
import { freePort } from '../../postgres/owned-process.ts';
import { migrate } from '../../prisma/migrate.ts';

declare module 'vitest' {
  export interface ProvidedContext {
    postgresUrl: string;
  }
}

/** Migrated, and else empty: what `ownDatabase` copies. */
export const template = 'migrated';

/** One PostgreSQL for all files of this project. Each works in a database of its own. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const home = resolve(process.env.BELAY_HOME ?? '.belay');
  mkdirSync(home, { recursive: true });
  const dir = mkdtempSync(join(home, 'test-database-'));
  const settings = { fsync: 'off', shared_buffers: '64MB', max_connections: '200' };
  const postgres = await startPostgres({ dir, port: await freePort(), settings });
  await migrate(await ensureDatabase(postgres.url(), template), () => {});
  project.provide('postgresUrl', postgres.url());
  return async () => {
    await postgres.stop();
    rmSync(dir, { recursive: true, force: true });
  };
}
