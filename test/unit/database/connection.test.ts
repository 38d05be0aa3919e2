import { expect, test } from 'vitest';
import { openDatabase } from '../../../database/database.ts';

test('a connection of its own that breaks after PostgreSQL has said that it ends does not end the process', async () => {
  const database = openDatabase('postgresql://nobody@127.0.0.1:1/none', 1);
  const client = database.connection();
  // As whoever listens for notifications does, to begin anew.
  client.once('error', () => {});
  client.emit('error', new Error('terminating connection because of crash of another server process'));
  expect(() => client.emit('error', new Error('read ECONNRESET'))).not.toThrow();
  await database.close();
});
