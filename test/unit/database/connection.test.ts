import { afterAll, expect, test } from 'vitest';
import { openDatabase } from '../../../database/database.ts';

const database = openDatabase('postgresql://nobody@127.0.0.1:1/none', 1);
afterAll(() => database.close());

const { Client } = database.connections.options;
if (!Client) throw new Error('the pool makes connections of another class');

test.each([
  ['a connection of its own', () => database.connection()],
  ['one of the pool, in the middle of a transaction', () => new Client()],
])('%s that breaks after PostgreSQL has said that it ends does not end the process', (_, open) => {
  const client = open();
  // As whoever listens for notifications does, to begin anew.
  client.once('error', () => {});
  client.emit('error', new Error('terminating connection because of crash of another server process'));
  expect(() => client.emit('error', new Error('read ECONNRESET'))).not.toThrow();
});
