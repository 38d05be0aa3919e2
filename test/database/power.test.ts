/** BMCs in the records: no two hosts have one, what one says counts for the host that has it still, and whose turn it is to be asked. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { toRotate } from '../../database/credentials.ts';
import { type Database, transaction } from '../../database/database.ts';
import {
  type BmcRecord,
  bmcOf,
  countSilentBmcs,
  disproveBmc,
  hostsWithBmc,
  noteCut,
  notePower,
  pinCertificate,
} from '../../database/power.ts';
import { seal } from '../../database/secrets.ts';
import { noteSent, noteTaken, notSent, takenOfParts, wasSent } from '../../database/sent.ts';
import { problemOfRule } from '../../database/uniqueness.ts';
import { type OwnInstallation, ownInstallation } from '../support/ownDatabase.ts';

let own: OwnInstallation;
let database: Database;
let cluster: string;

const query = async <Row>(text: string, values: unknown[] = []): Promise<Row[]> =>
  (await database.connections.query(text, values)).rows as Row[];

beforeAll(async () => {
  own = await ownInstallation(8);
  ({ database } = own);
  const [zone, pod] = [crypto.randomUUID(), crypto.randomUUID()];
  cluster = crypto.randomUUID();
  await query(`INSERT INTO "zone" (id, name) VALUES ($1::uuid, $1::text)`, [zone]);
  await query(`INSERT INTO "pod" (id, name, "zoneId") VALUES ($1::uuid, $1::text, $2)`, [pod, zone]);
  await query(`INSERT INTO "cluster" (id, name, "podId", "zoneId") VALUES ($1::uuid, $1::text, $2, $3)`, [
    cluster,
    pod,
    zone,
  ]);
}, 60_000);
afterAll(async () => {
  await own.close();
});
/** Past the guards of the table. */
const change = (ids: string[], what: string): Promise<unknown> =>
  transaction(database, async (tx) => {
    await tx.query('SET LOCAL session_replication_role = replica');
    await tx.query(`UPDATE "host" SET ${what} WHERE id = ANY($1)`, [ids]);
  });
beforeEach(async () => {
  await query(`UPDATE "host" SET "deletedAt" = now() WHERE "deletedAt" IS NULL`);
});

const redfish: BmcRecord = { protocol: 'redfish', address: '10.9.0.1', user: 'admin' };

async function add(bmc: BmcRecord | null = null, more = ''): Promise<string> {
  const id = crypto.randomUUID();
  await query(
    `INSERT INTO "host" (id, name, "clusterId", address, state, connection, bmc) VALUES ($1::uuid, $1::text, $2, $1::text, 'active', 'disconnected', $3)`,
    [id, cluster, bmc && JSON.stringify(bmc)],
  );
  if (more) await change([id], more);
  return id;
}
const refused = (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    () => null,
    (error: unknown) => problemOfRule(error)?.code ?? error,
  );

describe('one BMC', () => {
  test('is of one host, however many come at once, and of the next once that is gone', async () => {
    for (let round = 0; round < 5; round++) {
      const ended = await Promise.all(Array.from({ length: 6 }, () => refused(add(redfish))));
      expect(ended.filter((code) => code === null)).toHaveLength(1);
      expect(ended.filter((code) => code === 'ADDRESS_IN_USE')).toHaveLength(5);
      await query(`UPDATE "host" SET "deletedAt" = now() WHERE "deletedAt" IS NULL`);
    }
  });

  test.each<[string, Partial<BmcRecord>, string | null]>([
    ['by another user', { user: 'other' }, 'ADDRESS_IN_USE'],
    ['with the port that it has anyway', { port: 443 }, 'ADDRESS_IN_USE'],
    ['in capitals', { address: 'BMC.Example' }, 'ADDRESS_IN_USE'],
    ['as the only system', {}, 'ADDRESS_IN_USE'],
    ['another system', { system: 'two' }, null],
    ['at another port', { port: 444 }, null],
    ['at another address', { address: '10.9.0.2' }, null],
    ['by another protocol', { protocol: 'ipmi' }, null],
  ])('%s: %o is %s', async (_, other, code) => {
    await add({ ...redfish, address: 'bmc.example', system: 'one' });
    const system = other.user || other.port === 443 || other.address === 'BMC.Example' ? { system: 'one' } : {};
    expect(await refused(add({ ...redfish, address: 'bmc.example', ...system, ...other }))).toBe(code);
  });

  test('is taken by an update as little as by a new host', async () => {
    await add(redfish);
    const other = await add();
    const update = (): Promise<unknown> =>
      query(`UPDATE "host" SET bmc = $2 WHERE id = $1`, [other, JSON.stringify(redfish)]);
    expect(await refused(update())).toBe('ADDRESS_IN_USE');
  });
});

test('what a BMC said counts only while the host has that BMC; a certificate that was pinned meanwhile makes it no other', async () => {
  const id = await add(redfish);
  const asked = { hostId: id, bmc: JSON.stringify(redfish) };
  const revision = async (): Promise<number> =>
    (await query<{ revision: number }>(`SELECT revision FROM "host" WHERE id = $1`, [id]))[0]?.revision ?? 0;
  const first = await revision();
  expect(await pinCertificate(database.connections, { ...asked, certificate: 'aa' })).toEqual([{ certificate: 'aa' }]);
  expect(await pinCertificate(database.connections, { ...asked, certificate: 'bb' })).toEqual([{ certificate: 'aa' }]);
  expect(await revision()).toBe(first + 1);
  expect(await notePower(database.connections, { ...asked, powerState: 'on' })).toMatchObject([{ changed: true }]);
  for (const other of [{ port: 444 }, { system: 'two' }, { user: 'other' }, { address: '10.9.0.2' }]) {
    const stale = { hostId: id, bmc: JSON.stringify({ ...redfish, ...other }) };
    expect(await notePower(database.connections, { ...stale, powerState: 'off' })).toEqual([]);
    expect(await pinCertificate(database.connections, { ...stale, certificate: 'cc' })).toEqual([]);
    expect(await disproveBmc(database.connections, stale)).toEqual([]);
  }
});

test('a BMC and its password are read as they are at one moment', async () => {
  const id = await add(redfish);
  await query(
    `INSERT INTO "secret" ("ownerKind", "ownerId", field, ciphertext) VALUES ('host', $1, 'bmcPassword', $2)`,
    [id, seal(id, 'bmcPassword', 'first')],
  );
  const [host] = await bmcOf(database.connections, { hostId: id });
  expect(host?.sealedPassword).toMatch(/^\\x[0-9a-f]{60,}$/);
  expect(host?.bmc).toEqual(redfish);
});

test('a host is dead by the word of its BMC only while it is silent, held by who says so, and has that BMC, which nobody has disproved', async () => {
  const operationId = crypto.randomUUID();
  const asked = { hostId: '', bmc: JSON.stringify(redfish), operationId };
  const held = `"currentOperationId" = '${operationId}'`;
  const cut = async (more: string, change: Partial<typeof asked> = {}): Promise<unknown> => {
    await query(`UPDATE "host" SET "deletedAt" = now() WHERE "deletedAt" IS NULL`);
    const hostId = await add(redfish, more);
    const rows = await transaction(database, (tx) => noteCut(tx, { ...asked, hostId, ...change }));
    const [now] = await query<{ deadAt: Date | null }>(`SELECT "deadAt" FROM "host" WHERE id = $1`, [hostId]);
    expect(now?.deadAt !== null).toBe(rows.length > 0);
    return rows.map(({ changed }) => changed);
  };
  expect(await cut(held)).toEqual([true]);
  expect(await cut(`${held}, connection = 'connected'`)).toEqual([]);
  expect(await cut(`${held}, connection = 'degraded'`)).toEqual([]);
  expect(await cut(`${held}, "bmcDisprovedAt" = now()`)).toEqual([]);
  expect(await cut(`"currentOperationId" = '${crypto.randomUUID()}'`)).toEqual([]);
  expect(await cut(held, { bmc: JSON.stringify({ ...redfish, system: 'two' }) })).toEqual([]);
});

test('as many BMCs are asked in a run as it takes to come around in ten; those that are disproved are asked no more', async () => {
  const ids = [];
  for (let at = 0; at < 21; at++) ids.push(await add({ ...redfish, address: `10.9.1.${at}` }));
  const asked = async (least: number, most: number): Promise<number> =>
    (await hostsWithBmc(database.connections, { least, most, runs: 10 })).length;
  expect([await asked(1, 100), await asked(5, 100), await asked(1, 2)]).toEqual([3, 5, 2]);
  await change(ids.slice(0, 3), '"powerObservedAt" = now()');
  await change(ids.slice(3, 4), '"powerObservedAt" = now(), "bmcDisprovedAt" = now()');
  expect(await countSilentBmcs(database.connections, {})).toEqual([{ silent: 3 }]);
  expect(await asked(100, 100)).toBe(20);
});

test('a host whose credentials can not be changed keeps no other from its turn', async () => {
  await query(
    `INSERT INTO "setting" (id, name, value) VALUES (gen_random_uuid(), 'host.rotateCredentialsDays', '30')
     ON CONFLICT DO NOTHING`,
  );
  await query(`UPDATE "setting" SET value = '30' WHERE name = 'host.rotateCredentialsDays'`);
  const ids: string[] = [];
  for (let at = 0; at < 4; at++)
    ids.push(await add(null, `connection = 'connected', "createdAt" = now() - interval '${100 - at} days'`));
  const next = async (least: number): Promise<string[]> =>
    (await toRotate(database.connections, { least, most: 200 })).map(({ id }) => id);
  expect(await next(2)).toEqual(ids.slice(0, 2));
  for (const id of ids.slice(0, 2))
    await query(
      `INSERT INTO "operation" (id, type, "targetKind", "targetId", input, state) VALUES ($1, 'host.rotateCredentials', 'host', $2, '{}', 'failed')`,
      [crypto.randomUUID(), id],
    );
  expect(await next(2)).toEqual(ids.slice(2));
  expect(await next(4)).toEqual([...ids.slice(2), ...ids.slice(0, 2)]);
});

test('what was sent is noted once, for one operation, until it is known that it has not come', async () => {
  const sent = { operationId: crypto.randomUUID(), what: 'reset' };
  const tries = await Promise.all(Array.from({ length: 6 }, () => noteSent(database.connections, sent)));
  expect(tries.flat()).toHaveLength(1);
  expect(await wasSent(database.connections, sent)).toHaveLength(1);
  expect(await wasSent(database.connections, { ...sent, what: 'cycle' })).toEqual([]);
  await notSent(database.connections, sent);
  expect(await noteSent(database.connections, sent)).toHaveLength(1);
});

test('what a part of an operation has sent is told to it once, and only where it is known to have come', async () => {
  const [operationId, part] = [crypto.randomUUID(), crypto.randomUUID()];
  for (const [id, parent] of [
    [operationId, null],
    [part, operationId],
  ])
    await query(
      `INSERT INTO "operation" (id, type, "targetKind", "targetId", input, state, "parentOperationId") VALUES ($1, 'host.power', 'host', $2, '{}', 'running', $3)`,
      [id, crypto.randomUUID(), parent],
    );
  const sent = { operationId: part, what: 'cycle' };
  const taken = () => takenOfParts(database.connections, { operationId, what: 'cycle' });
  await noteSent(database.connections, sent);
  expect(await taken()).toEqual([]);
  await noteTaken(database.connections, sent);
  expect(await taken()).toHaveLength(1);
  expect(await taken()).toEqual([]);
});
