/** Projects take turns: what one has queued, however much, does not stand before another's first. */
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { inTurns, readyAtOnce, readyOperations } from '../../database/queue.ts';
import { type Scene, setScene } from '../support/scene.ts';

let scene: Scene;
beforeAll(async () => {
  scene = await setScene();
}, 60_000);
beforeEach(() => scene.stage.query('DELETE FROM "operation"; DELETE FROM "operationLock"'));
afterAll(() => scene.stop());

/** Operations that wait, each with a lock: on something of its own, or all in one line. */
async function queue(projectId: string | null, count: number, secondsAgo: number, resourceId?: string): Promise<void> {
  await scene.stage.query(
    `WITH made AS (
       INSERT INTO "operation" (id, "projectId", type, state, "targetKind", "targetId", input, "createdAt")
       SELECT gen_random_uuid(), $1, 'network.repair', 'queued', 'network', coalesce($4::uuid, gen_random_uuid()), '{}', now() - make_interval(secs => $3::int) + n * interval '1 ms'
       FROM generate_series(1, $2::int) n RETURNING id, "targetId")
     INSERT INTO "operationLock" ("operationId", "resourceKind", "resourceId", mode) SELECT id, 'network', "targetId", 'X' FROM made`,
    [projectId, count, secondsAgo, resourceId ?? null],
  );
}

const of = (operations: { projectId: string | null }[], projectId: string | null): number =>
  operations.filter((one) => one.projectId === projectId).length;

test('the first of a project waits for no more than one of another, which has ten thousand before it', async () => {
  const [flood, first] = [crypto.randomUUID(), crypto.randomUUID()];
  await queue(flood, 10_000, 3_600);
  await queue(first, 1, 0);
  await queue(null, 1, 0);
  const { operations, more } = await readyOperations(scene.database);
  expect([of(operations, flood), of(operations, first), of(operations, null)]).toEqual([
    Math.floor(readyAtOnce / 3),
    1,
    1,
  ]);
  expect(operations.slice(0, 3).map(({ projectId }) => projectId)).toEqual(
    expect.arrayContaining([flood, first, null]),
  );
  expect(more).toBe(true);
  // Those are taken; what is left goes on, now with all of the share.
  const next = await readyOperations(scene.database);
  expect(of(next.operations, flood)).toBeGreaterThanOrEqual(Math.floor(readyAtOnce / 3));
  expect(next.operations.some(({ id }) => operations.some((one) => one.id === id))).toBe(false);
});

test('a project whose line stands still holds up nobody, and its own first in each line is found', async () => {
  const [blocked, other] = [crypto.randomUUID(), crypto.randomUUID()];
  await queue(blocked, 2_000, 3_600, crypto.randomUUID());
  await queue(blocked, 1, 0);
  await queue(other, 2, 0);
  const { operations, more } = await readyOperations(scene.database);
  expect([of(operations, blocked), of(operations, other), more]).toEqual([2, 2, false]);
});

test('more projects than are taken at a time have one each', async () => {
  const projects = Array.from({ length: readyAtOnce + 50 }, () => crypto.randomUUID());
  for (const projectId of projects) await queue(projectId, 2, 0);
  const { operations, more } = await readyOperations(scene.database);
  expect(new Set(operations.map(({ projectId }) => projectId)).size).toBe(projects.length);
  expect([operations.length, more]).toEqual([projects.length, true]);
  expect((await readyOperations(scene.database)).operations).toHaveLength(projects.length);
  expect(await readyOperations(scene.database)).toEqual({ operations: [], more: false });
});

test('what is begun together is begun in turns', () => {
  const order = inTurns(['a', 'a', 'a', 'b', 'c', 'b'].map((projectId, n) => ({ projectId, n })));
  expect(order.map(({ projectId, n }) => `${projectId}${n}`)).toEqual(['a0', 'b3', 'c4', 'a1', 'b5', 'a2']);
});
