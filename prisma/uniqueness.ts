/** What the model calls unique, as the indexes that keep it: of the living alone, which a Prisma schema can not say. */
import pg from 'pg';
import { isUniqueness, type Uniqueness, uniquenesses } from '../model/uniqueness.ts';
import { postgresConnection } from '../runtime/postgresConnection.ts';

/** How an index is made. Needs the extension btree_gist where ranges are compared. */
export function indexStatement(index: string, { kind, unique }: Uniqueness): string {
  const columns = unique.fields.map((name) => `"${name}"`);
  const living = [
    '"deletedAt" IS NULL',
    ...Object.entries(unique.among ?? {}).map(([name, value]) =>
      typeof value === 'boolean' ? `${value ? '' : 'NOT '}"${name}"` : `"${name}" = '${value}'`,
    ),
  ].join(' AND ');
  if (!unique.ranges) return `CREATE UNIQUE INDEX "${index}" ON "${kind.name}" (${columns.join(', ')}) WHERE ${living}`;
  const last = columns.pop();
  const parts = [...columns.map((column) => `${column} WITH =`), `(${last}::inet) inet_ops WITH &&`];
  return `ALTER TABLE "${kind.name}" ADD CONSTRAINT "${index}" EXCLUDE USING gist (${parts.join(', ')}) WHERE (${living})`;
}

/** The names of such indexes that a database has. */
export async function indexesOf(client: Pick<pg.Client, 'query'>): Promise<Set<string>> {
  const { rows } = await client.query<{ indexname: string }>(
    'SELECT indexname FROM pg_indexes WHERE schemaname = current_schema()',
  );
  return new Set(rows.flatMap(({ indexname }) => (isUniqueness(indexname) ? [indexname] : [])));
}

/** What a migrated database lacks of the declared ones, and has too many, as the statements that mend it. */
export async function missingUniqueness(databaseUrl: string): Promise<string[]> {
  const client = new pg.Client(postgresConnection(databaseUrl)());
  await client.connect();
  try {
    const present = await indexesOf(client);
    return [
      ...[...present].filter((index) => !uniquenesses.has(index)).map((index) => `DROP INDEX "${index}"`),
      ...[...uniquenesses].flatMap(([index, uniqueness]) =>
        present.has(index) ? [] : [indexStatement(index, uniqueness)],
      ),
    ];
  } finally {
    await client.end();
  }
}
