/**
 * The connections of an API server, apart by what asks: what is slow or stays open never takes those of requests that are answered at once.
 * Whoever finds none free waits for a while and is told BACKEND_UNAVAILABLE then.
 */
import { type Database, openDatabase } from '../database/database.ts';
import { config } from '../runtime/config.ts';

export interface Databases {
  /** For what is answered at once. */
  database: Database;
  /** For what stays open: streams, waits, uploads. */
  open: Database;
  /** For lists with filters, whose cost callers decide; PostgreSQL ends each statement that takes too long. */
  search: Database;
}

const waitMs = 10_000;

export const openDatabases = (url: string): Databases => ({
  database: openDatabase(url, config.databaseConnections, { waitMs }),
  open: openDatabase(url, config.openConnections, { waitMs, statementMs: config.queryMilliseconds }),
  search: openDatabase(url, config.searchConnections, { waitMs, statementMs: config.queryMilliseconds }),
});
