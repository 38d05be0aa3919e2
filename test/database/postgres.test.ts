import { mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ensureDatabase, postgresPidFile, type RunningPostgres, startPostgres } from '../../postgres/embedded.ts';
import { assertPortFree, findOwnedProcess, freePort, stopByPidFile } from '../../postgres/owned-process.ts';
import { migrate } from '../../prisma/migrate.ts';

const settings = { fsync: 'off', shared_buffers: '32MB' };
let dir: string;
let port: number;
let postgres: RunningPostgres;

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'belay-postgres-'));
  port = await freePort();
  postgres = await startPostgres({ dir, port, settings });
}, 60_000);

afterAll(async () => {
  await postgres.stop();
  rmSync(dir, { recursive: true, force: true });
});

async function query(url: string, sql: string): Promise<Record<string, unknown>[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query(sql)).rows;
  } finally {
    await client.end();
  }
}

describe('the embedded PostgreSQL', () => {
  it('lets in only who knows the password, which only its owner can read', async () => {
    const url = new URL(postgres.url());
    url.password = 'guessed';
    await expect(query(url.href, 'SELECT 1')).rejects.toThrow('password authentication failed');
    expect(statSync(join(dir, 'password')).mode & 0o777).toBe(0o600);
  });

  it('keeps time in UTC', async () => {
    expect(await query(postgres.url(), 'SHOW timezone')).toEqual([{ TimeZone: 'UTC' }]);
  });

  it('makes a database once, however often and by how many at once it is asked', async () => {
    const urls = await Promise.all([1, 2, 3].map(() => ensureDatabase(postgres.url(), 'asked-for')));
    expect(new Set(urls)).toEqual(new Set([postgres.url('asked-for')]));
    expect(await query(postgres.url('asked-for'), 'SELECT current_database()')).toEqual([
      { current_database: 'asked-for' },
    ]);
  });

  it('refuses a second owner while the first one lives, and names it', async () => {
    await expect(startPostgres({ dir, port: await freePort(), settings })).rejects.toThrow(
      `PostgreSQL already runs as process ${postgres.pid}, started by process ${process.pid}`,
    );
  });

  it('starts again over the same directory after a crash, with what was committed', async () => {
    const url = await ensureDatabase(postgres.url(), 'survivor');
    await query(url, 'CREATE TABLE kept AS SELECT 42 AS answer');
    process.kill(postgres.pid, 'SIGKILL');
    expect(await postgres.exited).toContain('SIGKILL');
    postgres = await startPostgres({ dir, port, settings });
    expect(await query(postgres.url('survivor'), 'SELECT answer FROM kept')).toEqual([{ answer: 42 }]);
  });

  it('can be stopped by its pid file alone', async () => {
    expect(findOwnedProcess(postgresPidFile(dir))).toEqual({
      pid: postgres.pid,
      ownerPid: process.pid,
      ownerAlive: true,
    });
    expect(await stopByPidFile(postgresPidFile(dir), 'SIGINT')).toBe(true);
    expect(await postgres.exited).toContain('exit code 0');
    expect(await stopByPidFile(postgresPidFile(dir), 'SIGINT')).toBe(false);
    postgres = await startPostgres({ dir, port, settings });
  });
});

describe('migrations at process start', () => {
  let migrationsDir: string;
  const write = (name: string, script: string) => {
    mkdirSync(join(migrationsDir, name), { recursive: true });
    writeFileSync(join(migrationsDir, name, 'migration.sql'), script);
  };

  beforeAll(() => {
    migrationsDir = join(dir, 'migrations');
    write('20260101000000_first', 'CREATE TABLE thing (id int PRIMARY KEY);');
    write(
      '20260102000000_second',
      'CREATE FUNCTION two() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN 1; -- not; the end\n RETURN 2; END; $$;',
    );
  });

  it('are applied once when two processes start at the same moment', async () => {
    const url = await ensureDatabase(postgres.url(), 'two-at-once');
    const applied = await Promise.all([migrate(url, () => {}, migrationsDir), migrate(url, () => {}, migrationsDir)]);
    expect(applied.flat()).toEqual(['20260101000000_first', '20260102000000_second']);
    expect(await migrate(url, () => {}, migrationsDir)).toEqual([]);
  });

  it('leave nothing of a migration that fails', async () => {
    const url = await ensureDatabase(postgres.url(), 'failing');
    write('20260103000000_wrong', 'CREATE TABLE half_done (id int); SELECT no_such_column FROM thing;');
    await expect(migrate(url, () => {}, migrationsDir)).rejects.toThrow(
      'migration 20260103000000_wrong failed: column "no_such_column" does not exist',
    );
    expect(await query(url, "SELECT to_regclass('half_done') AS table")).toEqual([{ table: null }]);
    write('20260103000000_wrong', 'CREATE TABLE whole (id int);');
    expect(await migrate(url, () => {}, migrationsDir)).toEqual(['20260103000000_wrong']);
    rmSync(join(migrationsDir, '20260103000000_wrong'), { recursive: true });
    await expect(migrate(url, () => {}, migrationsDir)).rejects.toThrow('which this version of Belay does not know');
  });

  it('refuse a migration that was changed after it was applied', async () => {
    const url = await ensureDatabase(postgres.url(), 'edited');
    await migrate(url, () => {}, migrationsDir);
    write('20260101000000_first', 'CREATE TABLE thing (id bigint PRIMARY KEY);');
    await expect(migrate(url, () => {}, migrationsDir)).rejects.toThrow(
      'migration 20260101000000_first was changed after the database had applied it',
    );
  });
});

describe('a port in use', () => {
  it('is one line that names the port and the setting that moves it', async () => {
    const taken = createServer();
    const takenPort = await new Promise<number>((resolve) => {
      taken.listen({ host: '127.0.0.1', port: 0 }, () => {
        const address = taken.address();
        resolve(typeof address === 'object' && address !== null ? address.port : 0);
      });
    });
    await expect(assertPortFree('PostgreSQL', takenPort, 'BELAY_POSTGRES_PORT')).rejects.toThrow(
      `port ${takenPort} for PostgreSQL is in use on 127.0.0.1; free it or choose another with BELAY_POSTGRES_PORT`,
    );
    await new Promise((resolve) => taken.close(resolve));
    await expect(assertPortFree('PostgreSQL', takenPort, 'BELAY_POSTGRES_PORT')).resolves.toBeUndefined();
  });
});
