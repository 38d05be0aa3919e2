import pg from 'pg';

/** A connection of its own to the database of a cloud, for what the API does not tell or would not do. */
export async function openClient(databaseUrl: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  return client;
}
