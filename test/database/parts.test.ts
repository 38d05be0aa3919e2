/** A part of an operation is told above it for as long as it waits, and undoes nothing that another operation has done since. */
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { acceptChild } from '../../acceptance/child.ts';
import { findings } from '../../activities/platform/finding.ts';
import { operations } from '../../activities/platform/operation.ts';
import { conclude, lockOperation } from '../../activities/platform/operationRecord.ts';
import type { World } from '../../activities/world.ts';
import { askOperation } from '../../api/operations.ts';
import { transaction } from '../../database/database.ts';
import { noteWait, noteWaitingParts } from '../../database/operations.ts';
import { longestAgo } from '../../database/schedules.ts';
import { type Scene, setScene } from '../support/scene.ts';

let scene: Scene;
beforeAll(async () => {
  scene = await setScene();
}, 60_000);
afterAll(() => scene?.stop());
beforeEach(() => scene.reset());

let clock = 0;
async function operation(
  type: string,
  {
    parent = null,
    state = 'running',
    targetId = scene.ids.host,
  }: { parent?: string | null; state?: string; targetId?: string } = {},
): Promise<string> {
  const id = crypto.randomUUID();
  await scene.stage.query(
    `INSERT INTO "operation" (id, state, type, "targetKind", "targetId", "parentOperationId", "actorUserId", "actorApiKeyId", "createdAt", "updatedAt", "startedAt", "endedAt")
     VALUES ($1, $2, $3, 'host', $4, $5, $6, $7, now(), now(), now() + make_interval(secs => $8),
       CASE WHEN $2 = 'succeeded' THEN now() + make_interval(secs => $8) END)`,
    [id, state, type, targetId, parent, scene.ids.user, scene.ids.apiKey, ++clock],
  );
  return id;
}
const waitsFor = async (id: string): Promise<string | null> =>
  (await scene.stage.query<{ waitsFor: string | null }>(`SELECT "waitsFor" FROM "operation" WHERE id = $1`, [id]))
    .rows[0]?.waitsFor ?? null;

async function waiting(): Promise<{ parent: string; part: string }> {
  const parent = await operation('cluster.rollingMaintenance');
  const part = await operation('host.maintain', { parent });
  await noteWait(scene.database.connections, { id: part, waitsFor: 'a new fan' });
  await noteWaitingParts(scene.database.connections, { id: parent });
  return { parent, part };
}

test.each(['succeeded', 'failed', 'cancelled'] as const)(
  'one that has %s waits for nobody any more, nor does the one above it',
  async (state) => {
    const { parent, part } = await waiting();
    expect(await waitsFor(parent)).toBe(`operation ${part}: a new fan`);
    await transaction(scene.database, async (tx) =>
      conclude(tx, await lockOperation(tx, part), { state, steps: [], error: null, result: null }),
    );
    expect([await waitsFor(part), await waitsFor(parent)]).toEqual([null, null]);
  },
);

test('continue is for the part that waits, and of the one above it says which that is', async () => {
  const { parent, part } = await waiting();
  const asked = { userId: null, apiKeyId: null, sourceAddress: 'test', requestId: 'test' } as never;
  const goOn = (id: string): Promise<void> =>
    askOperation(scene.database, {} as never, id, 'continue', asked, {}, { dryRun: true, ifMatch: null });
  await expect(goOn(parent)).rejects.toMatchObject({
    code: 'INVALID_STATE',
    details: { resource: { kind: 'operation', id: part } },
  });
  await expect(goOn(part)).resolves.toBeUndefined();
});

test('a host is taken back into use by the operation that has emptied it last, and by no other', async () => {
  const exit = {
    type: 'host.exitMaintenance',
    targetId: scene.ids.host ?? '',
    input: {},
    whileOwn: 'host.enterMaintenance',
  };
  await scene.stage.query(`UPDATE "host" SET state = 'maintenance' WHERE id = $1`, [scene.ids.host]);
  const [mine, other] = [await operation('host.maintain'), await operation('host.maintain')];
  await operation('host.enterMaintenance', { parent: mine, state: 'succeeded' });
  for (const parent of [other, null]) {
    await operation('host.enterMaintenance', { parent, state: 'succeeded' });
    await expect(acceptChild(scene.database, mine, '1.1', exit, true)).rejects.toMatchObject({ code: 'INVALID_STATE' });
  }
  await operation('host.enterMaintenance', { parent: mine, state: 'succeeded' });
  expect((await acceptChild(scene.database, mine, '1.1', exit, true)).status).toBe(202);
});

test('a finding whose cause is gone is repaired by nothing', async () => {
  const { database, stage, ids } = scene;
  const findingId = crypto.randomUUID();
  await stage.query(
    `INSERT INTO "finding" (id, class, what, "resourceKind", "resourceId", repair, state, "updatedAt") VALUES ($1, 'missing', 'guest', 'instance', $2, $3, 'repairing', now())`,
    [findingId, ids.instance, JSON.stringify({ action: 'instance.settle', input: {} })],
  );
  const parent = await operation('finding.repair');
  const world = { database } as World;
  const mend = async (state: string) => {
    await stage.query(`UPDATE "instance" SET state = $2, "currentOperationId" = NULL WHERE id = $1`, [
      ids.instance,
      state,
    ]);
    const request = await findings(world).examine.do({ findingId }, {} as never);
    const asked = { operationId: parent, stepIndex: 1, key: state, request, goesOn: true };
    return operations(world).acceptChild.do(asked, {} as never);
  };
  expect(await mend('stopped')).toEqual({ start: null, waits: false });
  expect((await mend('running')).start).toMatchObject({ type: 'instance.settle' });
});

test('of several, those come first on which none was begun, and then those that have waited longest', async () => {
  const ids: string[] = Array.from({ length: 4 }, () => crypto.randomUUID());
  for (const targetId of [ids[2], ids[0], ids[2], ids[1], ids[0]] as string[])
    await operation('cluster.rollingMaintenance', { targetId, state: 'succeeded' });
  await operation('cluster.rebalance', { targetId: String(ids[2]), state: 'succeeded' });
  const found = await longestAgo(scene.database.connections, { type: 'cluster.rollingMaintenance', ids });
  expect(found.map(({ id }) => ids.indexOf(id))).toEqual([3, 2, 1, 0]);
});
