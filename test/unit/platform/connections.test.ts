/** All processes of one installation find their connections, whatever each of them does. */
import { expect, test } from 'vitest';
import { maxConnections } from '../../../postgres/embedded.ts';
import { config } from '../../../runtime/config.ts';
import { temporalConnections } from '../../../temporal/server.ts';
import { readText } from '../docs/documentation.ts';

/** Of PostgreSQL's own, `superuser_reserved_connections`. */
const reserved = 3;
/** A process that listens for news keeps one more. */
const news = 1;

const api = config.databaseConnections + config.openConnections + config.searchConnections + news;
const workers = 2 * config.databaseConnections;
const dispatcher = config.dispatcherConnections + config.callbackConnections + news;
const all = api + workers + dispatcher + temporalConnections;

test('the bounds of all pools together fit into PostgreSQL', () => {
  expect(all).toBeLessThanOrEqual(maxConnections - reserved);
  // A second API server, too.
  expect(all + api).toBeLessThanOrEqual(maxConnections - reserved);
});

test('docs/configuration.md tells their sum', () => {
  const page = readText('docs/configuration.md');
  expect(page).toContain(`one of each takes ${all} of the ${maxConnections}`);
  expect(page).toContain(`API server add ${api}`);
  expect(page).toContain(`dispatcher ${dispatcher}`);
});
