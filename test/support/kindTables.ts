/** A database with the model's tables, and nothing that guards them, for tests that need to see what statements really do. */
import pg from 'pg';
import { plannerSettings } from '../../database/database.ts';
import { type Column, columnsOf, orderableOf } from '../../model/columns.ts';
import type { Kind } from '../../model/kind.ts';
import { allKinds } from '../../model/kinds.ts';
import { ownDatabase } from './ownDatabase.ts';

export interface TestDatabase {
  client: pg.Client;
  stop(): Promise<void>;
}

export async function startTestDatabase(): Promise<TestDatabase> {
  const { url, drop } = await ownDatabase({ empty: true });
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  // Plans are looked at here, so they have to be those of the product.
  for (const [name, value] of Object.entries(plannerSettings)) await client.query(`SET ${name} = ${value}`);
  for (const kind of allKinds) await client.query(tableOf(kind));
  return {
    client,
    async stop() {
      await client.end();
      await drop();
    },
  };
}

const types: Partial<Record<Column['type'], string>> = { double: 'float8' };

/** Defaults where the model has none keep the tests' rows short. */
function defaultOf(column: Column): string {
  if (column.type === 'timestamptz' && !column.nullable) return 'DEFAULT now()';
  if (column.default === undefined) return '';
  const value =
    column.type === 'uuid[]'
      ? '{}'
      : typeof column.default === 'object'
        ? JSON.stringify(column.default)
        : String(column.default);
  return `DEFAULT '${value.replaceAll("'", "''")}'`;
}

function tableOf(kind: Kind): string {
  const columns = columnsOf(kind).map(
    (column) =>
      `"${column.name}" ${types[column.type] ?? column.type} ${column.nullable ? '' : 'NOT NULL'} ${defaultOf(column)}`,
  );
  const scoped = columnsOf(kind).some(({ name }) => name === 'projectId');
  const references = columnsOf(kind).filter(({ ref, type, name }) => ref && type === 'uuid' && name !== 'projectId');
  const indexes = [
    ...orderableOf(kind).flatMap((key) => [`"${key}", id`, ...(scoped ? [`"projectId", "${key}", id`] : [])]),
    ...references.map(({ name }) => `"${name}"`),
  ];
  return [
    `CREATE TABLE "${kind.name}" (${columns.join(', ')}, PRIMARY KEY (id))`,
    ...indexes.map((index) => `CREATE INDEX ON "${kind.name}" (${index})`),
  ].join(';');
}
