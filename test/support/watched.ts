import type { Database, Transaction } from '../../database/database.ts';

/** A database whose sessions tell of each statement before it is sent: a test may hold a session at the place it is about. */
export function watched(
  database: Database,
  before: (statement: string, client: Transaction) => Promise<void>,
  connected: (client: Transaction) => void = () => {},
): Database {
  const watch = (client: Transaction): Transaction =>
    new Proxy(client, {
      get(target, key) {
        const value = Reflect.get(target, key, target) as unknown;
        if (key !== 'query') return typeof value === 'function' ? value.bind(target) : value;
        return async (query: string | { text: string }) => {
          await before(typeof query === 'string' ? query : query.text, target);
          return target.query(query as never);
        };
      },
    });
  const connect = async (): Promise<Transaction> => {
    const client = await database.connections.connect();
    connected(client);
    return watch(client);
  };
  return { ...database, connections: { connect } as unknown as Database['connections'] };
}
