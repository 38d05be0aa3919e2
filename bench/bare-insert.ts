/**
 * The least that accepting a create could cost: the very rows that each of these creates has written, written again by prepared statements,
 * those of one create in one transaction, into tables with the same columns, checks and indexes. Asked `{ databaseUrl, prefix, connections }`,
 * answers `{ creates, rows, seconds }`.
 */
import pg from 'pg';

export interface BareInsert {
  databaseUrl: string;
  /** Of the names of the instances. */
  prefix: string;
  connections: number;
}
export interface BareInserted {
  creates: number;
  rows: number;
  seconds: number;
}

/** What acceptance writes of one instance, and how its rows are found. */
const tables: readonly [table: string, instanceOf: string][] = [
  ['instance', 'id'],
  ['volume', '"instanceId"'],
  ['networkInterface', '"instanceId"'],
  ['operation', '"targetId"'],
  ['operationLock', '(SELECT o."targetId" FROM "operation" o WHERE o.id = t."operationId")'],
  ['auditEntry', '"resourceId"'],
  ['event', '"resourceId"'],
];
const schema = 'bare';

interface Statement {
  name: string;
  text: string;
  values: (string | null)[];
}

/** Values go back as PostgreSQL's own text: what is measured is not a driver's conversion. */
const asText = { getTypeParser: () => (value: string) => value } as unknown as pg.CustomTypesConfig;

async function copyOf(client: pg.Client, table: string): Promise<string[]> {
  await client.query(`CREATE TABLE ${schema}."${table}" (LIKE "${table}" INCLUDING ALL)`);
  const { rows } = await client.query<{ name: string }>(
    `SELECT column_name AS name FROM information_schema.columns WHERE table_schema = 'public' AND table_name = $1 AND is_generated = 'NEVER' ORDER BY ordinal_position`,
    [table],
  );
  return rows.map(({ name }) => name);
}

/** The statements of each create. */
async function prepare(client: pg.Client, prefix: string): Promise<Statement[][]> {
  await client.query(`DROP SCHEMA IF EXISTS ${schema} CASCADE`);
  await client.query(`CREATE SCHEMA ${schema}`);
  const creates = new Map<string, Statement[]>();
  for (const [table, instanceOf] of tables) {
    const columns = await copyOf(client, table);
    const names = columns.map((name) => `"${name}"`).join(', ');
    const places = columns.map((_, index) => `$${index + 1}`).join(', ');
    const text = `INSERT INTO ${schema}."${table}" (${names}) OVERRIDING SYSTEM VALUE VALUES (${places})`;
    const { rows } = await client.query<(string | null)[]>({
      text: `SELECT i.id, ${columns.map((name) => `t."${name}"`).join(', ')} FROM "instance" i JOIN "${table}" t ON ${instanceOf.startsWith('(') ? instanceOf : `t.${instanceOf}`} = i.id WHERE starts_with(i.name, $1)`,
      values: [`${prefix}-`],
      rowMode: 'array',
      types: asText,
    });
    for (const [instanceId, ...values] of rows) {
      const statements = creates.get(String(instanceId)) ?? [];
      statements.push({ name: table, text, values });
      creates.set(String(instanceId), statements);
    }
  }
  return [...creates.values()];
}

async function measure({ databaseUrl, prefix, connections }: BareInsert): Promise<BareInserted> {
  const clients = Array.from({ length: connections }, () => new pg.Client({ connectionString: databaseUrl }));
  await Promise.all(clients.map((client) => client.connect()));
  const [first] = clients;
  if (!first) throw new Error('it takes a connection');
  try {
    const creates = await prepare(first, prefix);
    let next = 0;
    const started = performance.now();
    await Promise.all(
      clients.map(async (client) => {
        for (let create = creates[next++]; create; create = creates[next++]) {
          await client.query('BEGIN');
          for (const statement of create) await client.query(statement);
          await client.query('COMMIT');
        }
      }),
    );
    const seconds = (performance.now() - started) / 1000;
    await first.query(`DROP SCHEMA ${schema} CASCADE`);
    return { creates: creates.length, rows: creates.flat().length, seconds };
  } finally {
    await Promise.all(clients.map((client) => client.end()));
  }
}

process.on('message', (question: BareInsert) => {
  measure(question).then(
    (result) => process.send?.({ result }),
    (error: unknown) => process.send?.({ error: error instanceof Error ? error.message : String(error) }),
  );
});
