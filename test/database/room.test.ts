/** The room of a pool and of a host is given once, whoever asks and however many ask at once: the database decides, for every way that leads to more. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { placement } from '../../activities/compute/placement.ts';
import { failureOf } from '../../activities/failure.ts';
import type { StepPair } from '../../activities/step.ts';
import { claimCopy } from '../../activities/storage/imageCache.ts';
import { storagePools } from '../../activities/storage/storagePool.ts';
import { volumeRecords } from '../../activities/storage/volume.ts';
import type { World } from '../../activities/world.ts';
import { transaction } from '../../database/database.ts';
import { ownFindings } from '../../database/detection.ts';
import { see } from '../../database/findings.ts';
import { choosePools, type Pool } from '../../database/placement.ts';
import { type Scene, setScene } from '../support/scene.ts';

const atOnce = 12;
const rounds = Number(process.env.BELAY_RACE_TRIES ?? 5);

let scene: Scene;
let world: World;
beforeAll(async () => {
  scene = await setScene();
  world = { database: scene.database } as World;
});
afterAll(() => scene?.stop());

interface Named {
  instanceId?: string;
  volumeId?: string;
  storagePoolId?: string;
}

/** An operation that holds what its step is about, as acceptance lets it. */
async function holder({ instanceId, volumeId }: Named, undo: boolean) {
  const operationId = crypto.randomUUID();
  await scene.stage.query(
    `INSERT INTO "operation" (id, state, type, "targetKind", "targetId", "createdAt", "updatedAt") VALUES ($1, 'running', 'test', 'instance', $2, now(), now())`,
    [operationId, instanceId],
  );
  await scene.stage.query(`UPDATE "instance" SET "currentOperationId" = $2 WHERE id = $1`, [instanceId, operationId]);
  await scene.stage.query(`UPDATE "volume" SET "currentOperationId" = $2 WHERE $1 IN (id, "instanceId")`, [
    volumeId ?? instanceId,
    operationId,
  ]);
  return { operationId, undo } as never;
}

const does = async <I extends Named, O>(pair: StepPair<I, O>, input: I): Promise<O> =>
  pair.do(input, await holder(input, false));
const undoes = async <I extends Named, O>(pair: StepPair<I, O>, input: I): Promise<void> =>
  pair.undo?.(input, await holder(input, true));

/** `done`, or the code that the operation would end with. */
const ended = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'done',
    (error: unknown) => (failureOf(error) as { type?: string }).type ?? String(error),
  );

/** What `count` get at once, by how many. */
async function race(work: (index: number) => Promise<unknown>): Promise<Record<string, number>> {
  const ends = await Promise.all(Array.from({ length: atOnce }, (_, index) => ended(work(index))));
  const counts: Record<string, number> = {};
  for (const end of ends) counts[end] = (counts[end] ?? 0) + 1;
  return counts;
}

/** Further rows, like the one that is there. */
const copies = async (
  table: string,
  like: string | undefined,
  values: Record<string, unknown>,
  count = atOnce,
): Promise<string[]> =>
  (
    await scene.stage.query<{ id: string }>(
      `INSERT INTO "${table}" SELECT (json_populate_record(t, ($2::jsonb || jsonb_build_object('id', gen_random_uuid()))::json)).*
       FROM "${table}" t, generate_series(1, ${count}) WHERE t.id = $1 RETURNING id`,
      [like, JSON.stringify(values)],
    )
  ).rows.map(({ id }) => id);

const unplaced = { poolId: null, state: 'creating', instanceId: null, deviceIndex: null, source: null };

const placed = (sizeGib: number) => ({ poolId: scene.ids.storagePool, sizeGib });

async function promised(): Promise<number> {
  const { rows } = await scene.stage.query<{ gib: number }>(`SELECT belay_promised_gib($1)::int AS gib`, [
    scene.ids.storagePool,
  ]);
  return rows[0]?.gib ?? 0;
}

/** As much room in the pool as is promised already, and so many GiB more. */
async function leave(gib: number): Promise<void> {
  await scene.stage.query(`UPDATE "storagePool" SET "totalGib" = $2 WHERE id = $1`, [
    scene.ids.storagePool,
    (await promised()) + gib,
  ]);
}

/** Until some session waits for another's lock on a row. */
async function untilWaiting(): Promise<void> {
  for (;;) {
    const { rows } = await scene.stage.query(
      `SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`,
    );
    if (rows.length > 0) return;
  }
}

describe(`of ${atOnce} that want the room of a pool at once, as many get it as it has room for`, () => {
  beforeEach(() => scene.reset());

  const ways: Record<string, () => Promise<(index: number) => Promise<unknown>>> = {
    async 'a volume'() {
      const ids = await copies('volume', scene.ids.volume, { ...unplaced, sizeGib: 5 });
      return (index) => does(placement(world).reserveSpace, { volumeId: String(ids[index]) });
    },
    async 'an instance with several volumes, which count together'() {
      const ids = await copies('instance', scene.ids.instance, { state: 'creating', hostId: null });
      for (const [deviceIndex, sizeGib] of [1, 2, 2].entries())
        for (const instanceId of ids)
          await scene.stage.query(
            `INSERT INTO "volume" SELECT (json_populate_record(v, ($2::jsonb || jsonb_build_object('id', gen_random_uuid()))::json)).* FROM "volume" v WHERE v.id = $1`,
            [scene.ids.volume, JSON.stringify({ ...unplaced, sizeGib, instanceId, deviceIndex })],
          );
      return (index) => does(placement(world).reserve, { instanceId: String(ids[index]) });
    },
    async 'a volume that grows'() {
      const ids = await copies('volume', scene.ids.volume, placed(1));
      return (index) =>
        does(volumeRecords(world).claimGrowth, { volumeId: String(ids[index]), sizeGib: 6, fromSizeGib: 1 });
    },
    async 'a volume that is reverted to a larger one'() {
      const ids = await copies('volume', scene.ids.volume, placed(1));
      return (index) =>
        does(volumeRecords(world).recordSize, { volumeId: String(ids[index]), sizeGib: 6, fromSizeGib: 1 });
    },
    async 'the copy of an image'() {
      const ids = await copies('image', scene.ids.image, { minSizeGib: 5 });
      return (index) =>
        claimCopy(world, { imageId: String(ids[index]), poolId: String(scene.ids.storagePool) }, crypto.randomUUID());
    },
  };

  for (const [name, prepare] of Object.entries(ways))
    test(name, async () => {
      for (let round = 0; round < rounds; round++) {
        await scene.reset();
        await scene.stage.query(`DELETE FROM "imageCache"`);
        const ask = await prepare();
        await leave(10);
        const before = await promised();
        expect(await race(ask)).toEqual({ done: 2, NO_CAPACITY: atOnce - 2 });
        expect((await promised()) - before).toBe(10);
      }
    });

  test('all ways together never promise more than there is, and leave no room that the last of them needed', async () => {
    for (let round = 0; round < rounds; round++) {
      await scene.reset();
      await scene.stage.query(`DELETE FROM "imageCache"`);
      const asks: Awaited<ReturnType<(typeof ways)[string]>>[] = [];
      for (const prepare of Object.values(ways)) asks.push(await prepare());
      await leave(25);
      const before = await promised();
      const counts = await race((index) => asks[index % asks.length]?.(index) ?? Promise.resolve());
      expect(counts).toEqual({ done: 5, NO_CAPACITY: atOnce - 5 });
      expect((await promised()) - before).toBe(25);
    }
  });

  test('a pool that fills up under the eyes of a placement is left for another that has room', async () => {
    for (let round = 0; round < rounds; round++) {
      await scene.reset();
      const ids = await copies('volume', scene.ids.volume, { ...unplaced, sizeGib: 5 });
      await leave(10);
      const [second] = await copies('storagePool', scene.ids.storagePool, { pool: 'second', totalGib: 5 }, 1);
      await scene.stage.query(`DELETE FROM "storagePool" WHERE id <> ALL($1::uuid[])`, [
        [scene.ids.storagePool, second],
      ]);
      expect(await race((index) => does(placement(world).reserveSpace, { volumeId: String(ids[index]) }))).toEqual({
        done: 3,
        NO_CAPACITY: atOnce - 3,
      });
    }
  });

  test('a closed pool promises nothing new, and what lies in it goes on', async () => {
    const [id] = await copies('volume', scene.ids.volume, placed(2), 1);
    await scene.stage.query(`UPDATE "storagePool" SET enabled = false WHERE id = $1`, [scene.ids.storagePool]);
    const grow = { volumeId: String(id), fromSizeGib: 2 };
    expect(await ended(does(volumeRecords(world).claimGrowth, { ...grow, sizeGib: 3 }))).toBe('NO_CAPACITY');
    expect(await ended(does(volumeRecords(world).recordSize, { ...grow, sizeGib: 1 }))).toBe('done');
    await scene.database.connections.query(`UPDATE "volume" SET name = 'another' WHERE id = $1`, [id]);
  });

  test('a pool that is being deleted takes nothing new, and is not removed under what was placed there before', async () => {
    const [before, after] = await copies('volume', scene.ids.volume, { ...unplaced, sizeGib: 1 }, 2);
    await leave(10);
    await scene.stage.query(`UPDATE "volume" SET "poolId" = NULL, "deletedAt" = now() WHERE id <> ALL($1::uuid[])`, [
      [before, after],
    ]);
    await scene.stage.query(`UPDATE "snapshot" SET "deletedAt" = now()`);
    // A placement has chosen the pool, and has not ended, when the deletion of the pool is accepted.
    const placing = await scene.database.connections.connect();
    await placing.query('BEGIN');
    await placing.query(`SELECT set_config('belay.operation', 'migration', true)`);
    await placing.query(`UPDATE "volume" SET "poolId" = $2 WHERE id = $1`, [before, scene.ids.storagePool]);
    const deletion = scene.accept('storagePool.delete');
    await untilWaiting();
    await placing.query('COMMIT');
    placing.release();
    expect((await deletion).status).toBe(202);
    expect(await ended(does(placement(world).reserveSpace, { volumeId: String(after) }))).toBe('NO_CAPACITY');
    const grow = { volumeId: String(before), sizeGib: 2, fromSizeGib: 1 };
    expect(await ended(does(volumeRecords(world).claimGrowth, grow))).toBe('NO_CAPACITY');
    const { locate } = storagePools(world);
    expect(await ended(does(locate, { storagePoolId: String(scene.ids.storagePool) }))).toBe('HAS_DEPENDENTS');
  });

  test('an undo takes back what was its own, though others have been given the room meanwhile', async () => {
    const [id] = await copies('volume', scene.ids.volume, placed(6), 1);
    const shrink = { volumeId: String(id), sizeGib: 1, fromSizeGib: 6 };
    await does(volumeRecords(world).recordSize, shrink);
    await leave(0);
    expect(await ended(undoes(volumeRecords(world).recordSize, shrink))).toBe('done');
    const { rows } = await scene.stage.query(`SELECT "sizeGib" FROM "volume" WHERE id = $1`, [id]);
    expect(rows).toEqual([{ sizeGib: 6 }]);
  });
});

test('of several that want the room of hosts at once, as many get it as hosts have room for', async () => {
  for (let round = 0; round < rounds; round++) {
    await scene.reset();
    const ids = await copies('instance', scene.ids.instance, { state: 'starting', hostId: null, memoryMib: 1000 });
    await scene.stage.query(`UPDATE "hostCapacity" SET "memoryMib" = CASE WHEN "hostId" = $1 THEN 2500 ELSE 1999 END`, [
      scene.ids.host,
    ]);
    expect(await race((index) => does(placement(world).reserve, { instanceId: String(ids[index]) }))).toEqual({
      done: 3,
      NO_CAPACITY: atOnce - 3,
    });
    const { rows } = await scene.stage.query(
      `SELECT "claimedMemoryMib" FROM "hostCapacity" ORDER BY "claimedMemoryMib"`,
    );
    expect(rows).toEqual([{ claimedMemoryMib: 1000 }, { claimedMemoryMib: 2000 }]);
  }
});

/** An instance without a place, for which both hosts have room: the emptier one is the first of them. */
async function homeless(state: string): Promise<{ instanceId: string; emptier: string; other: string }> {
  await scene.reset();
  const [id] = await copies(
    'instance',
    scene.ids.instance,
    { state, hostId: null, lastHostId: null, memoryMib: 10 },
    1,
  );
  const { host, otherHost } = scene.ids;
  await scene.stage.query(
    `UPDATE "hostCapacity" SET "memoryMib" = "claimedMemoryMib" + CASE WHEN "hostId" = $1 THEN 2000 ELSE 1000 END`,
    [host],
  );
  return { instanceId: String(id), emptier: String(host), other: String(otherHost) };
}

for (const what of ownFindings)
  test(`a host of which it is found that it is ${what} is the last that anything is placed on`, async () => {
    const { instanceId, emptier, other } = await homeless('starting');
    const at = { class: 'risk', severity: 'error', what, resourceKind: 'host', resourceId: emptier } as const;
    await see(scene.stage, { ...at, system: 'host', expected: 'it is well', actual: 'it is not' });
    const reserve = (): Promise<unknown> => does(placement(world).reserve, { instanceId });
    const here = (lastHostId: string | null) =>
      scene.stage.query(`UPDATE "instance" SET "hostId" = NULL, "lastHostId" = $2 WHERE id = $1`, [
        instanceId,
        lastHostId,
      ]);
    const forget = () => scene.stage.query(`DELETE FROM "hostClaim" WHERE "instanceId" = $1`, [instanceId]);
    expect(await reserve()).toMatchObject({ hostId: other });
    await forget();
    await here(emptier);
    expect(await reserve(), 'where it was before').toMatchObject({ hostId: other });
    await forget();
    await here(null);
    await scene.stage.query(`UPDATE "hostCapacity" SET "memoryMib" = "claimedMemoryMib" WHERE "hostId" = $1`, [other]);
    expect(await reserve(), 'where no other has room').toMatchObject({ hostId: emptier });
  });

test('a lost instance that could not be started on a host is tried on the others first', async () => {
  const { instanceId, emptier, other } = await homeless('restarting');
  const tried: unknown[] = [];
  for (let time = 0; time < 4; time++) {
    const asked = { instanceId, fromReserve: true };
    const operation = await holder(asked, false);
    tried.push((await placement(world).reserve.do(asked, operation)).hostId);
    await placement(world).reserve.undo?.(asked, operation);
  }
  expect(tried).toEqual([emptier, other, emptier, other]);
  await scene.stage.query(`UPDATE "failedPlace" SET "failedAt" = now() - interval '1 hour'`);
  expect(await does(placement(world).reserve, { instanceId })).toMatchObject({ hostId: emptier });
  const { instanceId: next } = await homeless('restarting');
  await scene.stage.query(
    `INSERT INTO "failedPlace" ("instanceId", "hostId", "failedAt") VALUES ($1, $2, now() - interval '1 hour')`,
    [instanceId, emptier],
  );
  const operation = await holder({ instanceId: next }, false);
  await placement(world).reserve.do({ instanceId: next }, operation);
  await placement(world).reserve.undo?.({ instanceId: next }, operation);
  const { rows } = await scene.stage.query(`SELECT "instanceId" FROM "failedPlace"`);
  expect(rows, 'what is old is forgotten').toEqual([{ instanceId: next }]);
});

/** A pool on the disks of each of the two hosts. */
async function localPools(): Promise<string[]> {
  const own = { type: 'local', storageClusterId: null, pool: null, source: { path: '/srv' } };
  const pools = [];
  for (const hostId of [scene.ids.host, scene.ids.otherHost])
    pools.push(...(await copies('storagePool', scene.ids.storagePool, { ...own, hostId }, 1)));
  return pools;
}

test('of several that bring volumes on the disks of two hosts to one instance at once, those of one host do', async () => {
  for (let round = 0; round < rounds; round++) {
    await scene.reset();
    const free = { instanceId: null, deviceIndex: null };
    const ids: (string | undefined)[] = [];
    const pools = await localPools();
    for (const poolId of pools)
      ids.push(...(await copies('volume', scene.ids.volume, { ...free, poolId }, atOnce / 2)));
    await scene.stage.query(`UPDATE "instance" SET "hostId" = NULL WHERE id = $1`, [scene.ids.instance]);
    const attach = (index: number) =>
      transaction(scene.database, async (tx) => {
        await tx.query(`SELECT set_config('belay.operation', 'migration', true)`);
        await tx.query(`UPDATE "volume" SET "instanceId" = $2, "deviceIndex" = $3 WHERE id = $1`, [
          ids[index],
          scene.ids.instance,
          index + 2,
        ]);
      });
    expect(await race(attach)).toEqual({ done: atOnce / 2, INVALID_STATE: atOnce / 2 });
    const { rows } = await scene.stage.query(
      `SELECT DISTINCT "poolId" FROM "volume" WHERE "instanceId" = $1 AND "poolId" = ANY($2)`,
      [scene.ids.instance, pools],
    );
    expect(rows.length).toBe(1);
  }
});

test('an instance with a volume on the disks of a host comes to that host, and to no other', async () => {
  await scene.reset();
  const [here, there] = await localPools();
  await scene.stage.query(`UPDATE "volume" SET "poolId" = $2 WHERE id = $1`, [scene.ids.attached, here]);
  await scene.stage.query(`DELETE FROM "hostClaim"`);
  await scene.stage.query(`UPDATE "instance" SET "hostId" = NULL, "lastHostId" = $2 WHERE id = $1`, [
    scene.ids.instance,
    scene.ids.otherHost,
  ]);
  const instanceId = String(scene.ids.instance);
  const asked = { instanceId, requestedHostId: String(scene.ids.otherHost) };
  expect(await ended(does(placement(world).reserve, asked))).toBe('NO_CAPACITY');
  expect(await does(placement(world).reserve, { instanceId })).toMatchObject({ hostId: scene.ids.host });
  expect(await ended(does(placement(world).reserveMove, { instanceId }))).toBe('NOT_SUPPORTED');
  await scene.stage.query(`UPDATE "volume" SET "poolId" = $2 WHERE id = $1`, [scene.ids.volume, there]);
  const volumeId = String(scene.ids.volume);
  expect(await ended(does(volumeRecords(world).reserveSlot, { volumeId, instanceId }))).toBe('INVALID_STATE');
});

test('volumes of one instance are placed with the room that those before them take', () => {
  const pool = (id: string, freeGib: number, copyGib: Record<string, number> = {}): Pool => ({
    id,
    storageClass: 'ssd',
    clusterIds: ['c'],
    hostId: null,
    freeGib,
    open: true,
    copyGib,
  });
  const volume = (id: string, sizeGib: number, imageId: string | null = null) => ({
    id,
    sizeGib,
    poolId: null,
    storageClass: 'ssd',
    imageId,
  });
  const chosen = (pools: Pool[], ...volumes: ReturnType<typeof volume>[]) => {
    const found = choosePools(pools, volumes, { clusterId: 'c', hostId: null });
    return found && Object.fromEntries(found);
  };
  expect(chosen([pool('a', 10)], volume('x', 5), volume('y', 5))).toEqual({ x: 'a', y: 'a' });
  expect(chosen([pool('a', 9)], volume('x', 5), volume('y', 5))).toBeNull();
  expect(chosen([pool('a', 9), pool('b', 6)], volume('x', 5), volume('y', 5))).toEqual({ x: 'a', y: 'b' });
  // The copy of an image is made once in a pool.
  expect(chosen([pool('a', 7, { i: 1 })], volume('x', 3, 'i'), volume('y', 3, 'i'))).toEqual({ x: 'a', y: 'a' });
  expect(chosen([pool('a', 6, { i: 1 })], volume('x', 3, 'i'), volume('y', 3, 'i'))).toBeNull();
});
