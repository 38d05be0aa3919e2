/** One id names one thing: whatever has, had or leads to an id, nobody can make another thing of that id. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { guardsOf } from '../../database/guards.ts';
import { readSecret, writeSecret } from '../../database/secrets.ts';
import { wellKnown } from '../../database/wellKnown.ts';
import { allKinds } from '../../model/kinds.ts';
import { Problem } from '../../runtime/problem.ts';
import { type Scene, setScene } from '../support/scene.ts';

let scene: Scene;
beforeAll(async () => {
  scene = await setScene();
});
afterAll(() => scene?.stop());

const publicKey = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPxkb1l0N2iN5Q0lqHqT3cYw7QmFh7l8o6mT0m9n8o2R';

const make = (type: string, body: Record<string, unknown>): Promise<unknown> =>
  scene.accept(type, { body: { projectId: wellKnown.rootProject, name: `made ${crypto.randomUUID()}`, ...body } });

const refusalOf = (attempt: Promise<unknown>): Promise<Problem> =>
  attempt.then(
    () => {
      throw new Error('it was accepted');
    },
    (error: unknown) => {
      if (error instanceof Problem) return error;
      throw error;
    },
  );

test('every table of resources enters its ids and guards its states', async () => {
  const { rows } = await scene.stage.query<{ guard: string }>(
    `SELECT c.relname || '.' || t.tgname AS guard FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid WHERE NOT t.tgisinternal`,
  );
  const there = new Set(rows.map(({ guard }) => guard));
  const missing = allKinds
    .flatMap((kind) => guardsOf(kind).map((guard) => `${kind.name}.${guard}`))
    .filter((guard) => !there.has(guard));
  expect(missing).toEqual([]);
});

test('an id that stands anywhere in the database is refused for anything new, and nothing changes', async () => {
  await scene.accept('instance.create');
  await scene.accept('snapshot.delete');
  const { rows: columns } = await scene.stage.query<{ table: string; column: string }>(
    `SELECT table_name AS "table", column_name AS "column" FROM information_schema.columns
     WHERE table_schema = 'public' AND data_type = 'uuid' AND table_name <> 'identity'`,
  );
  const ids = new Map<string, string>();
  for (const { table, column } of columns) {
    const { rows } = await scene.stage.query<{ id: string }>(
      `SELECT "${column}" AS id FROM "${table}" WHERE "${column}" IS NOT NULL LIMIT 3`,
    );
    for (const { id } of rows) ids.set(id, `${table}.${column}`);
  }
  const before = await scene.stage.query('SELECT count(*) FROM "identity"');
  const taken: string[] = [];
  for (const [id, where] of ids) {
    const refusal = await refusalOf(make('keyPair.create', { publicKey, requestedId: id })).catch(
      (error: Error) => error,
    );
    if (!(refusal instanceof Problem) || refusal.code !== 'NAME_IN_USE')
      taken.push(`${where} ${id}: ${refusal.message}`);
  }
  expect(taken).toEqual([]);
  expect(ids.size).toBeGreaterThan(30);
  expect((await scene.stage.query('SELECT count(*) FROM "identity"')).rows).toEqual(before.rows);
});

test('ids of the installation are kept for it, used or not', async () => {
  for (const id of [...Object.values(wellKnown), '00000000-0000-4000-8000-0000000000ff'])
    expect((await refusalOf(make('keyPair.create', { publicKey, requestedId: id }))).code).toBe('NAME_IN_USE');
});

test('of twelve who ask for one id at once, for things of two kinds, one gets it', async () => {
  for (let round = 0; round < 5; round++) {
    const requestedId = crypto.randomUUID();
    const outcomes = await Promise.allSettled(
      Array.from({ length: 12 }, (_, index) =>
        index % 2 === 0
          ? make('keyPair.create', { publicKey, requestedId })
          : make('network.create', { zoneId: scene.ids.zone, requestedId }),
      ),
    );
    expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
  }
});

test('an id is used up: not even the end of its tombstone gives it back', async () => {
  const requestedId = crypto.randomUUID();
  await make('keyPair.create', { publicKey, requestedId });
  await scene.accept('keyPair.delete', { targetId: requestedId });
  await scene.stage.query('DELETE FROM "keyPair" WHERE id = $1', [requestedId]);
  expect((await refusalOf(make('keyPair.create', { publicKey, requestedId }))).code).toBe('NAME_IN_USE');
});

test('the end of a resource takes no secret of another kind along, whatever id it has', async () => {
  const id = crypto.randomUUID();
  // As if two kinds could have one id: the guards of the tables are passed over.
  await scene.stage.query(`INSERT INTO "identity" (id, kind) VALUES ($1, 'backupStore')`, [id]);
  await writeSecret(scene.stage as never, { kind: 'backupStore', id }, 'secretKey', 'of the store');
  const key = crypto.randomUUID();
  await make('keyPair.create', { publicKey, requestedId: key });
  await scene.stage.query('UPDATE "keyPair" SET id = $2 WHERE id = $1', [key, id]);
  await scene.accept('keyPair.delete', { targetId: id });
  expect(await readSecret(scene.database, { kind: 'backupStore', id }, 'secretKey')).toBe('of the store');
});
