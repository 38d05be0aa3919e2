/** A round of maintenance goes on where the last run has stopped, and neither a host that stays away nor somebody else's run ends it or keeps it from going on. */
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { type Database, openDatabase } from '../../database/database.ts';
import { mostHosts, planRolling } from '../../database/rolling.ts';
import { type OwnDatabase, ownDatabase } from '../support/ownDatabase.ts';

let own: OwnDatabase;
let database: Database;
let clusterId: string;
let hosts: string[];
let clock = 0;

beforeAll(async () => {
  own = await ownDatabase();
  database = openDatabase(own.url, 4);
}, 60_000);
afterAll(async () => {
  await database.close();
  await own.drop();
});

const query = (text: string, values: unknown[] = []): Promise<unknown> => database.connections.query(text, values);

const addHosts = (ids: string[]): Promise<unknown> =>
  query(
    `INSERT INTO "host" (id, name, "clusterId", "podId", "zoneId", address, state, connection, "lastSeenAt")
     SELECT h.id, 'host-' || lpad(h.place::text, 6, '0'), c.id, c."podId", c."zoneId", h.id::text, 'active', 'connected', now()
     FROM unnest($1::uuid[]) WITH ORDINALITY AS h (id, place), "cluster" c WHERE c.id = $2`,
    [ids, clusterId],
  );

beforeEach(async () => {
  const [zone, pod] = [crypto.randomUUID(), crypto.randomUUID()];
  clusterId = crypto.randomUUID();
  await query(`INSERT INTO "zone" (id, name) VALUES ($1::uuid, $1::text)`, [zone]);
  await query(`INSERT INTO "pod" (id, name, "zoneId") VALUES ($1::uuid, $1::text, $2)`, [pod, zone]);
  await query(`INSERT INTO "cluster" (id, name, "podId", "zoneId") VALUES ($1::uuid, $1::text, $2, $3)`, [
    clusterId,
    pod,
    zone,
  ]);
  hosts = Array.from({ length: 3 }, () => crypto.randomUUID());
  await addHosts(hosts);
});

async function ended(type: string, targetId: string, parent: string | null, result: unknown, input: unknown) {
  const id = crypto.randomUUID();
  await query(
    `INSERT INTO "operation" (id, state, type, "targetKind", "targetId", "parentOperationId", input, result, "createdAt", "updatedAt", "startedAt", "endedAt")
     VALUES ($1, 'succeeded', $2, split_part($2, '.', 1), $3, $4, $5, $6, now(), now(), now(), now() + make_interval(secs => $7))`,
    [id, type, targetId, parent, JSON.stringify(input), JSON.stringify(result), ++clock],
  );
  return id;
}
const runOf = (scheduleId: string): Promise<string> => ended('schedule.runNow', scheduleId, null, {}, {});
/** A run of the schedule, or by hand, that has left these. */
const rolled = async (left: string[], scheduleId: string | null, goesOn = true): Promise<string> =>
  ended('cluster.rollingMaintenance', clusterId, scheduleId && (await runOf(scheduleId)), { left }, { goesOn });

const planned = async (more: { operationId?: string; order?: string[]; byBmc?: boolean } = {}) => {
  const { hosts: found, ...rest } = await planRolling(database.connections, { clusterId, goesOn: true, ...more });
  return { ...rest, hosts: found.map(({ id }) => id) };
};
const [a, b, c] = [0, 1, 2].map((index) => () => String(hosts[index])) as [() => string, () => string, () => string];

test.each([
  ['is deleted', `"deletedAt" = now()`, 0],
  ['is silent', `connection = 'disconnected'`, 1],
  ['is in maintenance', `state = 'maintenance'`, 1],
])('where all that is left %s, a new round begins with the others', async (_, what, stays) => {
  await rolled([c()], null);
  expect(await planned()).toMatchObject({ hosts: [c()], left: [] });
  await query(`UPDATE "host" SET ${what} WHERE id = $1`, [c()]);
  const left = stays ? [c()] : [];
  expect(await planned()).toMatchObject({ hosts: [a(), b()], left });
  expect(await planned({ order: hosts })).toMatchObject({ hosts: [a(), b()], unknown: stays ? [] : [c()] });
});

test('a host without a BMC is left alone where hosts are to be started anew by theirs', async () => {
  await query(`UPDATE "host" SET bmc = '{"protocol":"redfish","address":"bmc","user":"u"}' WHERE id = $1`, [b()]);
  expect(await planned({ byBmc: true })).toMatchObject({
    hosts: [b()],
    skipped: [a(), c()].map((hostId) => ({ hostId, reason: 'it has no BMC' })),
  });
  expect(await planned({ byBmc: false })).toMatchObject({ hosts: [a(), b(), c()], skipped: [] });
});

test('what is skipped is left, and has its turn before a new round begins', async () => {
  await query(`UPDATE "host" SET connection = 'disconnected' WHERE id = $1`, [b()]);
  const { left } = await planned();
  expect(left).toEqual([b()]);
  await rolled(left, null);
  await query(`UPDATE "host" SET connection = 'connected' WHERE id = $1`, [b()]);
  expect(await planned()).toMatchObject({ hosts: [b()], left: [] });
});

test('a run goes on with what its own schedule has left, whatever others have done meanwhile', async () => {
  const [mine, others] = [crypto.randomUUID(), crypto.randomUUID()];
  await rolled([b(), c()], mine);
  await rolled([], others);
  await rolled([], null, false);
  const next = await runOf(mine);
  expect((await planned({ operationId: next })).hosts).toEqual([b(), c()]);
  // The same once it is an operation of its own.
  const part = await ended('cluster.rollingMaintenance', clusterId, next, { left: [c()] }, { goesOn: true });
  expect((await planned({ operationId: part })).hosts).toEqual([c()]);
  expect((await planned({ operationId: await runOf(others) })).hosts).toEqual(hosts);
  expect((await planned()).hosts).toEqual(hosts);
});

test('no more than so many have their turn in one run, and the others are left', async () => {
  await addHosts(Array.from({ length: mostHosts }, () => crypto.randomUUID()));
  const { hosts: found, left, skipped } = await planned();
  expect([found.length, left.length, skipped]).toEqual([mostHosts, 3, []]);
});
