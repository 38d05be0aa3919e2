/** What a worker says of hosts that do not answer is in the records in the end, whatever else is written there. */
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import type { Database } from '../../database/database.ts';
import { leaseShards, makeShards, noteConnected, noteConnection } from '../../database/leases.ts';
import { shardCount, shardOf } from '../../model/shards.ts';
import type { Log } from '../../runtime/log.ts';
import { metricsText } from '../../runtime/metrics.ts';
import { doubt, doubtAllBut, type Observer, observeHosts } from '../../workers/observer.ts';
import type { WorkerProcess } from '../../workers/worker.ts';
import { type OwnInstallation, ownInstallation } from '../support/ownDatabase.ts';

const holder = 'worker#1';
const log: Log = Object.assign(() => {}, { info() {}, warn() {}, error() {}, debug() {} }) as unknown as Log;
const hostId = crypto.randomUUID();
const shard = shardOf(hostId);
let own: OwnInstallation;
let database: Database;
let observer: Observer | undefined;

const query = (text: string, values: unknown[] = []) => database.connections.query(text, values);
const lease = (): Promise<unknown> => leaseShards(database.connections, { holder, leaseSeconds: 3600 });
const hostNow = async () => (await query('SELECT connection, revision FROM "host" WHERE id = $1', [hostId])).rows[0];
/** As a step does that has reached it. */
const connect = (): Promise<unknown> => query(`UPDATE "host" SET connection = 'connected' WHERE id = $1`, [hostId]);
const lapse = (): Promise<unknown> => query(`UPDATE "shardLease" SET "expiresAt" = now() - interval '1 second'`);

beforeAll(async () => {
  own = await ownInstallation(8);
  ({ database } = own);
  await makeShards(database.connections);
  await lease();
  const [zone, pod, cluster] = [crypto.randomUUID(), crypto.randomUUID(), crypto.randomUUID()];
  await query(`INSERT INTO "zone" (id, name) VALUES ($1::uuid, 'z')`, [zone]);
  await query(`INSERT INTO "pod" (id, name, "zoneId") VALUES ($1::uuid, 'p', $2)`, [pod, zone]);
  await query(`INSERT INTO "cluster" (id, name, "podId", "zoneId") VALUES ($1::uuid, 'c', $2, $3)`, [
    cluster,
    pod,
    zone,
  ]);
  // Nobody listens at its address.
  await query(
    `INSERT INTO "host" (id, name, "clusterId", "podId", "zoneId", address, state, connection)
     VALUES ($1::uuid, 'h', $2, $3, $4, 'sim://127.0.0.1:1/host-1', 'active', 'connected')`,
    [hostId, cluster, pod, zone],
  );
}, 60_000);
afterAll(async () => {
  observer?.stop();
  await own.close();
});

test('only the one who carries a host is told that its word was taken, and what is said again changes nothing', async () => {
  const say = (by: string) =>
    noteConnection(database.connections, { hostId, connection: 'disconnected', shard, holder: by });
  expect(await say('worker#late')).toEqual([]);
  expect(await say(holder)).toEqual([{ id: hostId }]);
  const { revision } = await hostNow();
  expect(await say(holder)).toEqual([{ id: hostId }]);
  expect(await hostNow()).toEqual({ connection: 'disconnected', revision });
  await lapse();
  expect(await say(holder)).toEqual([]);
  await lease();
});

test('what a host says of its guests is taken from the one who carries it, and from nobody else', async () => {
  const [runs, ended] = [crypto.randomUUID(), crypto.randomUUID()];
  const tx = await database.connections.connect();
  // Guests without anything else that instances have.
  await tx.query('BEGIN; SET LOCAL session_replication_role = replica');
  await tx.query(
    `INSERT INTO "hostClaim" ("instanceId", "hostId", "operationId", vcpus, "memoryMib")
     SELECT id, $2::uuid, gen_random_uuid(), 1, 1 FROM unnest($1::uuid[]) id`,
    [[runs, ended], hostId],
  );
  await tx.query('COMMIT');
  tx.release();
  const hello = (by: string) => doubtAllBut(database.connections, { hostId, shard, holder: by, instanceIds: [runs] });
  const stopped = (by: string) => doubt(database.connections, { hostId, shard, holder: by, instanceId: runs });
  expect([await hello('worker#late'), await stopped('worker#late')]).toEqual([[], []]);
  expect(await hello(holder)).toEqual([{ instanceId: ended }]);
  expect(await stopped(holder)).toEqual([{ instanceId: runs }]);
  await lapse();
  expect([await hello(holder), await stopped(holder)]).toEqual([[], []]);
  await lease();
});

test('a host that somebody is at is not waited for', async () => {
  await connect();
  const tx = await database.connections.connect();
  await tx.query('BEGIN');
  await tx.query('SELECT 1 FROM "host" WHERE id = $1 FOR UPDATE', [hostId]);
  expect(await noteConnected(database.connections, { ids: [hostId], holder })).toEqual([]);
  await tx.query('ROLLBACK');
  tx.release();
  expect(await noteConnected(database.connections, { ids: [hostId], holder })).toHaveLength(1);
});

test('that a host does not answer is said when it is so, also where the clock of this machine is set back meanwhile', async () => {
  await connect();
  let lost = 0;
  const counting = Object.assign(() => {}, log, { warn: () => (lost += 1) }) as unknown as Log;
  const watching = observeHosts({ database, log: counting } as unknown as WorkerProcess, holder, {
    shards: () => [shard],
    leaseOf: () => undefined,
  });
  const rightNow = Date.now;
  try {
    // It was tried once.
    await vi.waitUntil(() => lost > 0, { timeout: 60_000, interval: 50 });
    vi.spyOn(Date, 'now').mockImplementation(() => rightNow() - 3_600_000);
    for (let tries = 0; (await hostNow()).connection !== 'disconnected'; tries++) {
      expect(tries, 'it is not said').toBeLessThan(300);
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  } finally {
    vi.restoreAllMocks();
    watching.stop();
  }
}, 120_000);

test('that a host does not answer is said until the records have it, and again when they do not have it any more', async () => {
  await connect();
  await lapse();
  let refused = 0;
  const connections = new Proxy(database.connections, {
    get: (target, key) =>
      key !== 'query'
        ? Reflect.get(target, key, target)
        : async (config: { text: string; values?: unknown[] }) => {
            const answer = await target.query(config);
            if (config.values?.includes('disconnected') && answer.rowCount === 0) refused += 1;
            return answer;
          },
  });
  const shards = Array.from({ length: shardCount }, (_, one) => one);
  observer = observeHosts({ database: { ...database, connections }, log } as unknown as WorkerProcess, holder, {
    shards: () => shards,
    leaseOf: () => undefined,
  });
  await vi.waitUntil(() => refused > 0, { timeout: 60_000, interval: 200 });
  expect((await hostNow()).connection).toBe('connected');
  await lease();
  const isSaid = async (): Promise<boolean> => (await hostNow()).connection === 'disconnected';
  await vi.waitUntil(isSaid, { timeout: 60_000, interval: 200 });
  await connect();
  await vi.waitUntil(isSaid, { timeout: 60_000, interval: 200 });
}, 200_000);

test('of a host that is in maintenance or was shut out it is not told that it does not answer', async () => {
  const told = async (): Promise<string[]> =>
    (await metricsText()).body.split('\n').filter((line) => line.startsWith('belay_host_up{'));
  const become = async (state: string): Promise<void> => {
    const tx = await database.connections.connect();
    await tx.query('BEGIN; SET LOCAL session_replication_role = replica');
    await tx.query(`UPDATE "host" SET state = $2, "updatedAt" = now() WHERE id = $1`, [hostId, state]);
    await tx.query('COMMIT');
    tx.release();
  };
  const isTold = async (): Promise<boolean> => (await told()).includes(`belay_host_up{host="${hostId}"} 0`);
  expect(await told()).toEqual([`belay_host_up{host="${hostId}"} 0`]);
  for (const state of ['maintenance', 'active', 'fenced']) {
    await become(state);
    await vi.waitUntil(async () => (await isTold()) === (state === 'active'), { timeout: 60_000, interval: 200 });
  }
}, 200_000);
