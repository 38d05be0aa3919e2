/** A database of a test file's own, on the PostgreSQL that the files of `test/database` share. */
import pg from 'pg';
import { inject } from 'vitest';
import { type Database, openDatabase } from '../../database/database.ts';
import { ensureInstallation } from '../../database/installation.ts';
import { template } from '../database/setup.ts';

export interface OwnDatabase {
  url: string;
  /** Also when somebody is still connected to it. */
  drop(): Promise<void>;
}

/** Migrated unless it is to be `empty`. */
export async function ownDatabase({ empty = false }: { empty?: boolean } = {}): Promise<OwnDatabase> {
  const url = new URL(inject('postgresUrl'));
  const name = `test_${crypto.randomUUID().replaceAll('-', '')}`;
  const asked = async (statement: string): Promise<void> => {
    const client = new pg.Client({ connectionString: inject('postgresUrl') });
    await client.connect();
    await client.query(statement).finally(() => client.end());
  };
  await asked(`CREATE DATABASE "${name}" TEMPLATE "${empty ? 'template0' : template}"`);
  url.pathname = `/${name}`;
  return { url: url.href, drop: () => asked(`DROP DATABASE "${name}" WITH (FORCE)`) };
}

export interface OwnInstallation {
  database: Database;
  close(): Promise<void>;
}

/** The same with what every installation has, opened with so many connections. */
export async function ownInstallation(connections: number): Promise<OwnInstallation> {
  process.env.BELAY_SECRET_KEY ??= '5e'.repeat(32);
  const own = await ownDatabase();
  const database = openDatabase(own.url, connections);
  await ensureInstallation(database);
  return {
    database,
    async close() {
      await database.close();
      await own.drop();
    },
  };
}
