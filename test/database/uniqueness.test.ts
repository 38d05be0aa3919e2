/** What the model calls unique, the database keeps: index by index, and however many come at once. */
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { problemOfRule } from '../../database/uniqueness.ts';
import { type Column, columnsOf } from '../../model/columns.ts';
import type { Kind } from '../../model/kind.ts';
import { allKinds } from '../../model/kinds.ts';
import { type Uniqueness, uniquenesses } from '../../model/uniqueness.ts';
import { indexesOf, indexStatement, missingUniqueness } from '../../prisma/uniqueness.ts';
import { type OwnDatabase, ownDatabase } from '../support/ownDatabase.ts';

const atOnce = 12;
const rounds = Number(process.env.BELAY_RACE_TRIES ?? 3);

let database: OwnDatabase;
let pool: pg.Pool;

beforeAll(async () => {
  database = await ownDatabase();
  pool = new pg.Pool({ connectionString: database.url, max: atOnce });
  // A connection that the server ends when it is stopped is no failure of a test.
  pool.on('error', () => {});
}, 60_000);

afterAll(async () => {
  await pool.end();
  await database.drop();
});

/** A value that fits the column; the same one only for the same seed. */
function sample({ name, type }: Column, seed: number): unknown {
  if (name === 'cidr') return `10.${Math.floor(seed / 256)}.${seed % 256}.0/24`;
  if (type === 'inet') return `10.200.${Math.floor(seed / 256)}.${seed % 256}`;
  if (type === 'uuid') return `00000000-0000-4000-9000-${String(seed).padStart(12, '0')}`;
  if (type === 'uuid[]') return [];
  if (type === 'text') return `text-${seed}`;
  if (type === 'jsonb') return JSON.stringify({});
  if (type === 'boolean') return false;
  return type === 'timestamptz' ? new Date().toISOString() : seed;
}

let seed = 0;

/** A living row of which everything is its own, but for what is given. */
function rowOf(kind: Kind, given: Record<string, unknown>): Record<string, unknown> {
  const row: Record<string, unknown> = {};
  for (const column of columnsOf(kind)) {
    if (column.name === 'deletedAt' || column.name in given || column.default !== undefined) continue;
    row[column.name] = sample(column, ++seed);
  }
  return { ...row, ...given };
}

async function insert({ name }: Kind, row: Record<string, unknown>): Promise<unknown> {
  const columns = Object.keys(row);
  await pool.query(
    `INSERT INTO "${name}" (${columns.map((column) => `"${column}"`).join(', ')}) VALUES (${columns.map((_, index) => `$${index + 1}`).join(', ')})`,
    Object.values(row),
  );
  return null;
}

const sharedBy = ({ kind, unique }: Uniqueness): Record<string, unknown> => ({
  ...Object.fromEntries(
    columnsOf(kind)
      .filter(({ name }) => unique.fields.includes(name))
      .map((column) => [column.name, sample(column, ++seed)]),
  ),
  ...unique.among,
});

describe.each([...uniquenesses])('%s', (index, uniqueness) => {
  const { kind, unique } = uniqueness;

  test('is an index that says what the model says', async () => {
    const client = await pool.connect();
    try {
      const definition = async (): Promise<string | undefined> =>
        (await client.query<{ indexdef: string }>('SELECT indexdef FROM pg_indexes WHERE indexname = $1', [index]))
          .rows[0]?.indexdef;
      const migrated = await definition();
      await client.query('BEGIN');
      await client.query(
        unique.ranges ? `ALTER TABLE "${kind.name}" DROP CONSTRAINT "${index}"` : `DROP INDEX "${index}"`,
      );
      await client.query(indexStatement(index, uniqueness));
      expect(migrated).toBe(await definition());
    } finally {
      await client.query('ROLLBACK');
      client.release();
    }
  });

  test(`lets one of ${atOnce} win, tells the others why, and lets the next in once it is gone`, async () => {
    for (let round = 0; round < rounds; round++) {
      const shared = sharedBy(uniqueness);
      const ended = await Promise.all(
        Array.from({ length: atOnce }, () =>
          insert(kind, rowOf(kind, shared)).catch((error: unknown) => problemOfRule(error)),
        ),
      );
      expect(ended.filter((problem) => problem === null)).toHaveLength(1);
      const field = unique.blame ?? unique.fields.at(-1);
      for (const problem of ended.filter((one) => one !== null))
        expect(problem).toMatchObject({ code: unique.code, details: { violations: [{ field }] } });
      await pool.query(`UPDATE "${kind.name}" SET "deletedAt" = now() WHERE "deletedAt" IS NULL`);
      await insert(kind, rowOf(kind, shared));
      await pool.query(`DELETE FROM "${kind.name}"`);
    }
  });
});

test('ranges of addresses on one network are unique even where one only lies in the other', async () => {
  const uniqueness = uniquenesses.get('subnet_networkId_cidr_living');
  if (!uniqueness) throw new Error('subnets may overlap');
  const { kind } = uniqueness;
  const networkId = crypto.randomUUID();
  await insert(kind, rowOf(kind, { networkId, cidr: '10.1.0.0/16' }));
  await expect(insert(kind, rowOf(kind, { networkId, cidr: '10.1.9.0/24' }))).rejects.toThrow('exclusion constraint');
  await insert(kind, rowOf(kind, { networkId, cidr: '10.2.0.0/16' }));
  await insert(kind, rowOf(kind, { networkId: crypto.randomUUID(), cidr: '10.1.9.0/24' }));
});

test('the database keeps nothing unique that the model does not declare, and lacks nothing', async () => {
  expect([...(await indexesOf(pool))].sort()).toEqual([...uniquenesses.keys()].sort());
  expect(await missingUniqueness(database.url)).toEqual([]);
  const { rows } = await pool.query<{ indexrelid: string }>(
    `SELECT i.indexrelid::regclass::text AS indexrelid FROM pg_index i JOIN pg_class t ON t.oid = i.indrelid
     WHERE t.relnamespace = 'public'::regnamespace AND (i.indisunique OR i.indisexclusion) AND NOT i.indisprimary AND t.relname = ANY($1)`,
    [allKinds.map(({ name }) => name)],
  );
  expect(rows.map(({ indexrelid }) => indexrelid.replaceAll('"', '')).sort()).toEqual([...uniquenesses.keys()].sort());
});
