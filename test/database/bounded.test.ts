/** What one account can make the platform keep by asking alone, whatever comes of it, is bounded. */
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest';
import { systemCaller } from '../../acceptance/caller.ts';
import { keptKeys } from '../../api/keptKeys.ts';
import { refusalNotes } from '../../api/refusals.ts';
import type { Context } from '../../api/request.ts';
import { kindOf } from '../../model/kinds.ts';
import { Problem } from '../../runtime/problem.ts';
import { type Scene, setScene } from '../support/scene.ts';

let scene: Scene;
beforeAll(async () => {
  scene = await setScene();
});
afterAll(() => scene?.stop());
afterEach(() => vi.useRealTimers());

const refused = (verb: string, accountId = 'a', apiKeyId = crypto.randomUUID()): Context =>
  ({
    ip: '192.0.2.1',
    state: {
      asked: { kind: kindOf('network'), verb, targetId: null, body: { name: 'n' } },
      caller: { accountId, userId: crypto.randomUUID(), apiKeyId },
      requestId: 'r',
    },
  }) as never;
const forbidden = new Problem('FORBIDDEN', 'no');
const entries = async (): Promise<{ permission: string; code: string; input: Record<string, unknown> }[]> =>
  (
    await scene.stage.query(
      `SELECT permission, code, input, outcome FROM "auditEntry" WHERE outcome = 'denied' ORDER BY "createdAt", id`,
    )
  ).rows;

test('refusals beyond some in a minute are one entry, which says how many of which sort there were', async () => {
  await scene.stage.query('DELETE FROM "auditEntry"');
  vi.useFakeTimers({ toFake: ['setTimeout'] });
  const written: Promise<void>[] = [];
  const notes = refusalNotes(scene.database, 3);
  const key = crypto.randomUUID();
  for (let n = 0; n < 20; n += 1) await notes.note(refused('create', 'a', key), forbidden);
  await notes.note(refused('delete', 'a', key), new Problem('NOT_FOUND', 'no'));
  // Others have entries of their own.
  await notes.note(refused('create', 'b'), forbidden);
  expect(await entries()).toHaveLength(4);
  written.push(notes.flush());
  await Promise.all(written);
  const all = await entries();
  expect(all).toHaveLength(5);
  expect(all.at(-1)).toMatchObject({
    permission: 'network.create',
    code: 'FORBIDDEN',
    input: {
      counted: 18,
      sorts: [
        { permission: 'network.create', code: 'FORBIDDEN', actorApiKeyId: key, count: 17 },
        { permission: 'network.delete', code: 'NOT_FOUND', actorApiKeyId: key, count: 1 },
      ],
    },
  });
  // With the next minute each is written again.
  await notes.note(refused('create'), forbidden);
  expect(await entries()).toHaveLength(6);
});

test('what was counted is written when its minute is over', async () => {
  await scene.stage.query('DELETE FROM "auditEntry"');
  vi.useFakeTimers({ toFake: ['setTimeout'] });
  const notes = refusalNotes(scene.database, 1);
  await notes.note(refused('create'), forbidden);
  await notes.note(refused('create'), forbidden);
  vi.advanceTimersByTime(60_000);
  vi.useRealTimers();
  await vi.waitUntil(async () => (await entries()).length === 2, { timeout: 20_000 });
});

test('so many Idempotency-Keys of an account are kept, whichever of its keys they come with; known ones are answered on', async () => {
  await scene.stage.query(`UPDATE "setting" SET value = '10' WHERE name = 'idempotency.keptPerAccount'`);
  await scene.stage.query('DELETE FROM "idempotencyKey"');
  const { rows: users } = await scene.stage.query<{ id: string; accountId: string }>(
    'SELECT id, "accountId" FROM "user" LIMIT 1',
  );
  const { id: userId = '', accountId = '' } = users[0] ?? {};
  const callers = await Promise.all(
    ['one', 'other'].map(async (name) => {
      const apiKeyId = crypto.randomUUID();
      await scene.stage.query(
        `INSERT INTO "apiKey" (id, name, "userId", "accountId", "accessKey", "secretHash") VALUES ($1, $2, $3, $4, $2, '')`,
        [apiKeyId, name, userId, accountId],
      );
      return { ...systemCaller(), apiKeyId, accountId };
    }),
  );
  let now = 0;
  const takeKey = keptKeys(() => now);
  const create = (idempotencyKey: string, caller = callers[0]) =>
    scene.accept('zone.create', {
      body: { name: idempotencyKey },
      idempotencyKey,
      takeKey,
      ...(caller ? { caller } : {}),
    });
  for (let n = 0; n < 10; n += 1) {
    expect((await create(`zone ${n}`)).status).toBe(201);
    // Counted anew, as by another process.
    if (n === 5) now += 60_000;
  }
  for (const caller of callers)
    await expect(create('one more', caller)).rejects.toMatchObject({ code: 'TOO_MANY_OPEN', details: { limit: 10 } });
  expect((await create('zone 3')).status).toBe(201);
  const { rows } = await scene.stage.query('SELECT count(*)::int AS count FROM "idempotencyKey"');
  expect(rows).toEqual([{ count: 10 }]);
  await scene.stage.query(`DELETE FROM "idempotencyKey" WHERE key = 'zone 0'`);
  await expect(create('one more')).rejects.toMatchObject({ code: 'TOO_MANY_OPEN' });
  now += 60_000;
  expect((await create('one more')).status).toBe(201);
});
