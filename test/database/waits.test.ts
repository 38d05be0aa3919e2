/** Waits for the ends of operations, on a real database and with a clock of their own. */
import { setImmediate } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from 'vitest';
import { endings, waitForEnd } from '../../api/waits.ts';
import type { Database } from '../../database/database.ts';
import { type OwnInstallation, ownInstallation } from '../support/ownDatabase.ts';

let own: OwnInstallation;
let database: Database;
let looks: number;
/** Those that have an answer. */
let answers: number;

beforeAll(async () => {
  own = await ownInstallation(4);
  const { connections } = own.database;
  const counted: typeof connections = Object.create(connections, {
    query: {
      value: async (...asked: Parameters<typeof connections.query>) => {
        looks += 1;
        const answer = await connections.query(...asked);
        answers += 1;
        return answer;
      },
    },
  });
  database = { ...own.database, connections: counted };
});
afterAll(() => own.close());
beforeEach(() => {
  looks = 0;
  answers = 0;
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'Date'] });
});
afterEach(() => {
  endings.missed();
  vi.useRealTimers();
});

async function begin(): Promise<{ end(): Promise<unknown>; over: Promise<void> }> {
  const id = crypto.randomUUID();
  const { connections } = own.database;
  await connections.query(
    `INSERT INTO "operation" (id, state, type, "targetKind", "targetId", "createdAt", "updatedAt") VALUES ($1, 'running', 'waited.for', 'instance', $1, now(), now())`,
    [id],
  );
  return {
    end: () => connections.query(`UPDATE "operation" SET state = 'succeeded' WHERE id = $1`, [id]),
    over: waitForEnd(database, id, 60, new AbortController().signal),
  };
}

/** Ends have been told since before it began. */
function beginListened(): ReturnType<typeof begin> {
  endings.told();
  return begin();
}

/** Answers of the database come in turns of the loop, not with the clock. */
async function looked(times: number): Promise<void> {
  while (answers < times) await setImmediate();
  // Whoever looked has what it was answered in the next turn.
  await setImmediate();
  expect(looks).toBe(times);
}

test('look when an end is told, and else once a second', async () => {
  const { end, over } = await beginListened();
  await looked(1);
  await vi.advanceTimersByTimeAsync(900);
  await looked(1);
  endings.told();
  await vi.advanceTimersByTimeAsync(10);
  await looked(2);
  await vi.advanceTimersByTimeAsync(1_100);
  await looked(3);
  await end();
  endings.told();
  await vi.advanceTimersByTimeAsync(300);
  await looked(4);
  await over;
});

test('see an end that nobody has told', async () => {
  const { end, over } = await beginListened();
  await looked(1);
  await end();
  await vi.advanceTimersByTimeAsync(1_100);
  await looked(2);
  await over;
});

test('look by themselves, soon at first, while nobody listens', async () => {
  const { end, over } = await begin();
  await looked(1);
  await vi.advanceTimersByTimeAsync(12);
  await looked(2);
  await end();
  await vi.advanceTimersByTimeAsync(12);
  await looked(3);
  await over;
});
