/** What makes a cluster even is looked for on all its hosts, so far as can be paid for, and what is said of why there is no more is so. */
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { planRebalance } from '../../database/rebalance.ts';
import { type Scene, setScene } from '../support/scene.ts';

let scene: Scene;
beforeAll(async () => {
  scene = await setScene();
}, 60_000);
afterAll(() => scene?.stop());
beforeEach(async () => {
  await scene.reset();
  await scene.stage.query(`DELETE FROM "hostCapacity"`);
});

const copy = async (table: 'host' | 'instance', changes: Record<string, unknown>): Promise<string> => {
  const id = crypto.randomUUID();
  await scene.stage.query(
    `INSERT INTO "${table}" SELECT (json_populate_record(t, $2::json)).* FROM "${table}" t WHERE t.id = $1`,
    [scene.ids[table], JSON.stringify({ ...changes, id, name: id })],
  );
  return id;
};

/** A host with so many instances of a tenth of it each. */
async function hostWith(count: number, { kvm = true, busy = false } = {}): Promise<string> {
  const hostId = await copy('host', { kvm, address: crypto.randomUUID() });
  const size = Math.max(count, 10);
  await scene.stage.query(
    `INSERT INTO "hostCapacity" ("hostId", "clusterId", "zoneId", open, vcpus, "memoryMib", "claimedVcpus", "claimedMemoryMib") VALUES ($1, $2, $3, true, $4, $5, $6, $7)`,
    [hostId, scene.ids.cluster, scene.ids.zone, size, size * 128, count, count * 128],
  );
  for (let n = 0; n < count; n++) {
    const instanceId = await copy('instance', {
      hostId,
      state: 'running',
      currentOperationId: busy ? crypto.randomUUID() : null,
    });
    await scene.stage.query(
      `INSERT INTO "hostClaim" ("instanceId", "hostId", "operationId", vcpus, "memoryMib") VALUES ($1, $2, gen_random_uuid(), 1, 128)`,
      [instanceId, hostId],
    );
  }
  return hostId;
}

const planned = (spreadPercent = 5) =>
  planRebalance(scene.database.connections, {
    clusterId: String(scene.ids.cluster),
    metric: 'memory',
    spreadPercent,
    maxMoves: 20,
  });

test('where nothing can leave the fullest host, the next fullest gives', async () => {
  await hostWith(9, { busy: true });
  const [next, empty] = [await hostWith(4), await hostWith(0)];
  const { moves, why } = await planned();
  expect(moves.map(({ fromHostId, toHostId }) => [fromHostId, toHostId])).toEqual([
    [next, empty],
    [next, empty],
  ]);
  expect(why).toBe('no instance that could move to one of the emptiest hosts would make it better');
});

test('hosts that differ by no more than is wanted neither give nor take', async () => {
  await hostWith(9, { busy: true });
  await hostWith(4);
  await hostWith(0);
  expect((await planned(45)).moves).toEqual([]);
});

test('where too many moves would have to be thought of, that is what is said', async () => {
  await hostWith(70);
  for (let n = 0; n < 8; n++) await hostWith(0, { kvm: false });
  const { moves, why } = await planned();
  expect(moves).toEqual([]);
  expect(why).toMatch(/^no more than 500 moves are thought of at a time/);
});
