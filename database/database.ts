/**
 * The PostgreSQL connections for everything that a process stores. Ordinary reads and writes go through Prisma's typed client,
 * hot statements are prepared and named on the same connections.
 */
import { createHash } from 'node:crypto';
import { createRequire } from 'node:module';
import type { PrismaPg as Adapter } from '@prisma/adapter-pg';
import pg from 'pg';
import type { PrismaClient } from '../generated/prisma/client.ts';
import { log } from '../runtime/log.ts';
import { postgresConnection } from '../runtime/postgresConnection.ts';

/** A connection in the middle of a transaction. */
export type Transaction = pg.PoolClient;

export interface Database {
  connections: pg.Pool;
  prisma: PrismaClient;
  /** A connection of its own beside those, not open yet: for what is held or listened to for long. */
  connection(): pg.Client;
  close(): Promise<void>;
}

const load = createRequire(import.meta.url);

/** Prisma's client is loaded by the first that asks it something: most processes never do, and it takes 10 MiB of each. */
function openPrisma(connections: pg.Pool): PrismaClient {
  const { PrismaPg } = load('@prisma/adapter-pg') as { PrismaPg: typeof Adapter };
  const client = load('../generated/prisma/client.ts') as { PrismaClient: typeof PrismaClient };
  return new client.PrismaClient({
    adapter: new PrismaPg(connections, { statementNameGenerator: (query) => statementName(query.sql) }),
  });
}

const names = new Map<string, string>();

/** A statement's name: equal texts share one plan. */
export function statementName(text: string): string {
  let name = names.get(text);
  if (!name) {
    name = `s_${createHash('sha256').update(text).digest('hex').slice(0, 24)}`;
    names.set(text, name);
  }
  return name;
}

/**
 * For what is asked again and again: each statement is planned once per connection, and finds its rows by an index. Left alone, the planner
 * goes by what tables held a while ago: the lists of who waits for what are empty before a burst, and a plan made then would read a
 * thousand rows a thousand times over.
 */
const byIndexSettings = { enable_seqscan: 'off', plan_cache_mode: 'force_generic_plan' };

/** Disks read anywhere as fast as in a row. PostgreSQL takes them for four times slower, and would rather read all rows than those of one project. */
export const plannerSettings = { random_page_cost: '1.1' };

export interface DatabaseOptions {
  /** Applies to every statement of the connections, as it does in transactions anyway. Only reads with filters of users do without. */
  byIndex?: boolean;
  /** After so long PostgreSQL ends a statement. */
  statementMs?: number;
  /** So long whoever wants a connection waits for one; then it is an outage. */
  waitMs?: number;
}

/** After so long a connection is made anew, so that none goes on for days with a certificate that was replaced. */
const connectionLifetimeSeconds = 3_600;
/** A connection that nobody has used for so long is closed: the next burst of requests within that time need not log in and plan its statements anew. */
const idleMs = 60_000;

/** A transaction that nobody goes on with for so long is of a process that is suspended or gone: what it holds is free again. */
const abandonedMs = 15_000;

/** Without UTC on the session, instants without an offset would shift by the server's zone. No statement may hold others up for ever. */
export function openDatabase(
  url: string,
  most: number,
  { byIndex = false, statementMs = 60_000, waitMs = 30_000 }: DatabaseOptions = {},
): Database {
  const connection = postgresConnection(url, (why) =>
    log.warn({ why }, 'a certificate for PostgreSQL can not be used; going on with the one before'),
  );
  class Client extends pg.Client {
    constructor(options?: pg.ClientConfig) {
      // Each connection asks for its certificates anew.
      super({ ...options, ...connection() });
      // PostgreSQL says that it ends, and then the connection breaks: an error that nobody listens for any more would end the process.
      this.on('error', () => {});
    }
  }
  const connections = new pg.Pool({
    Client,
    max: most,
    maxLifetimeSeconds: connectionLifetimeSeconds,
    idleTimeoutMillis: idleMs,
    connectionTimeoutMillis: waitMs,
    options: Object.entries({
      timezone: 'UTC',
      statement_timeout: statementMs,
      idle_in_transaction_session_timeout: abandonedMs,
      ...plannerSettings,
      ...(byIndex ? byIndexSettings : {}),
    })
      .map(([name, value]) => `-c ${name}=${value}`)
      .join(' '),
    keepAlive: true,
  });
  // A connection that breaks while idle is replaced; without a listener it would end the process.
  connections.on('error', () => {});
  let prisma: PrismaClient | undefined;
  return {
    connections,
    get prisma() {
      prisma ??= openPrisma(connections);
      return prisma;
    },
    connection: () => new Client({ keepAlive: true }),
    async close() {
      await prisma?.$disconnect();
      await connections.end().catch(() => {});
    },
  };
}

export interface Queryable {
  query(config: { name: string; text: string; values: unknown[] }): Promise<pg.QueryResult>;
}

/** Runs a prepared, named statement and answers its rows. */
export async function rowsOf<Row = Record<string, unknown>>(
  on: Queryable,
  text: string,
  values: unknown[] = [],
): Promise<Row[]> {
  const result = await on.query({ name: statementName(text), text, values });
  return result.rows as Row[];
}

/** From now on the connection is notified of what is said there. */
export const listenTo = (
  client: pg.Client,
  channel: 'belay_rights' | 'belay_queue' | 'belay_ended',
): Promise<unknown> => client.query(`LISTEN ${channel}`);

/** Whether PostgreSQL ended a statement because it took longer than it may. */
export const tookTooLong = (error: unknown): boolean => (error as { code?: unknown }).code === '57014';

/** Whether a failed statement says that PostgreSQL is away, full or shutting down, and nothing about the statement itself. */
export function isOutage(error: unknown): boolean {
  const { code, message } = error as { code?: unknown; message?: unknown };
  return (
    (typeof code === 'string' &&
      (/^(08|57|53)/.test(code) || ['ECONNREFUSED', 'ECONNRESET', 'EPIPE'].includes(code))) ||
    /timeout exceeded when trying to connect|Connection terminated/.test(String(message))
  );
}

/** What Prisma calls a record that is not there, in words of ours; null of any other error. */
export function missOf(error: unknown): string | null {
  const { code, meta } = error as { code?: unknown; meta?: { modelName?: string } };
  if (code !== 'P2025') return null;
  const { modelName = 'record' } = meta ?? {};
  return `there is no such ${modelName.charAt(0).toLowerCase()}${modelName.slice(1)}`;
}

/** Serialization failures and deadlocks: the transaction did nothing and may be tried again as it is. */
const retryable = new Set(['40001', '40P01']);

const begin = ['BEGIN', ...Object.entries(byIndexSettings).map(([name, value]) => `SET LOCAL ${name} = ${value}`)].join(
  '; ',
);

/** Runs `body` in one transaction (READ COMMITTED), at most three times when PostgreSQL asks for it. */
export async function transaction<T>(database: Database, body: (tx: Transaction) => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    const client = await database.connections.connect();
    let broken: Error | undefined;
    try {
      await client.query(begin);
      const result = await body(client);
      await client.query('COMMIT');
      return result;
    } catch (error) {
      await client.query('ROLLBACK').catch((failure: Error) => {
        broken = failure;
      });
      if (attempt < 3 && retryable.has((error as { code?: string }).code ?? '')) continue;
      throw error;
    } finally {
      client.release(broken);
    }
  }
}

export type Rows = Record<string, Record<string, unknown>[]>;

/**
 * One statement that inserts all rows of all tables. Columns are those of each table's first row; the others get their defaults.
 * The text depends on tables and columns only, so that one prepared plan serves any number of rows.
 */
export async function insertAll(tx: Queryable, rows: Rows): Promise<void> {
  const tables = Object.entries(rows).filter(([, list]) => list.length > 0);
  if (tables.length === 0) return;
  const parts = tables.map(([table, list], index) => {
    const columns = Object.keys(list[0] ?? {})
      .map((column) => `"${column}"`)
      .join(', ');
    return `t${index} AS (INSERT INTO "${table}" (${columns}) SELECT ${columns} FROM json_populate_recordset(NULL::"${table}", $${index + 1}::json))`;
  });
  await rowsOf(
    tx,
    `WITH ${parts.join(', ')} SELECT 1`,
    tables.map(([, list]) => JSON.stringify(list)),
  );
}
