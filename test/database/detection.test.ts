/** What is concluded of a host holds only while it is silent, and only from the one who carries it; what fails at once is counted by the records. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { systemCaller } from '../../acceptance/caller.ts';
import { acceptAs } from '../../acceptance/own.ts';
import { hostRemoval } from '../../activities/platform/hostRemoval.ts';
import { isProvenDown } from '../../activities/platform/witnesses.ts';
import type { World } from '../../activities/world.ts';
import { firstToScan } from '../../database/audit.ts';
import { declareDeadAtOnce, noteFenced, takeBackWord } from '../../database/claims.ts';
import { type Database, transaction } from '../../database/database.ts';
import { failingAtOnce, noteHealth, noteWell, silentHost, zoneHeard } from '../../database/detection.ts';
import { noteClients } from '../../database/fence.ts';
import { leaseShards, makeShards, noteConnected, tellShards } from '../../database/leases.ts';
import { kindOf } from '../../model/kinds.ts';
import { shardCount, shardOf } from '../../model/shards.ts';
import type { HostConnections } from '../../runtime/hosts.ts';
import type { Log } from '../../runtime/log.ts';
import { detection } from '../../workers/detection.ts';
import type { WorkerProcess } from '../../workers/worker.ts';
import { type OwnInstallation, ownInstallation } from '../support/ownDatabase.ts';

const holder = 'worker#1';
let own: OwnInstallation;
let database: Database;
let zoneId: string;
let hostIds: string[];

beforeAll(async () => {
  own = await ownInstallation(8);
  ({ database } = own);
  await makeShards(database.connections);
  await leaseShards(database.connections, { holder, leaseSeconds: 3600 });
}, 60_000);
afterAll(async () => {
  await own.close();
});

const query = (text: string, values: unknown[] = []): Promise<unknown> => database.connections.query(text, values);

const shards = Array.from({ length: shardCount }, (_, shard) => shard);
const tell = (): Promise<unknown> => tellShards(database.connections, { shards, holder });

/** A zone of its own with ten hosts that are heard, each in another shard. */
beforeEach(async () => {
  await tell();
  const [zone, pod, cluster] = [crypto.randomUUID(), crypto.randomUUID(), crypto.randomUUID()];
  await query(`INSERT INTO "zone" (id, name) VALUES ($1::uuid, $1::text)`, [zone]);
  await query(`INSERT INTO "pod" (id, name, "zoneId") VALUES ($1::uuid, $1::text, $2)`, [pod, zone]);
  await query(`INSERT INTO "cluster" (id, name, "podId", "zoneId") VALUES ($1::uuid, $1::text, $2, $3)`, [
    cluster,
    pod,
    zone,
  ]);
  const ids = new Map<number, string>();
  while (ids.size < 10) {
    const id = crypto.randomUUID();
    ids.set(shardOf(id), id);
  }
  hostIds = [...ids.values()];
  for (const id of hostIds)
    await query(
      `INSERT INTO "host" (id, name, "clusterId", "podId", "zoneId", address, state, connection)
       VALUES ($1::uuid, $1::text, $2, $3, $4, $1::text, 'active', 'connected')`,
      [id, cluster, pod, zone],
    );
  zoneId = zone;
});

const silence = (ids: string[]): Promise<unknown> =>
  query(`UPDATE "host" SET connection = 'disconnected' WHERE id = ANY($1)`, [ids]);
/** Past the guards of the table. */
const change = (ids: string[], what: string): Promise<unknown> =>
  transaction(database, async (tx) => {
    await tx.query('SET LOCAL session_replication_role = replica');
    await tx.query(`UPDATE "host" SET ${what} WHERE id = ANY($1)`, [ids]);
  });
/** A pool that all hosts of a cluster reach, in which storage says of none under which address it knows it. Answers its storage cluster. */
async function sharedPool(of = hostIds[0]): Promise<string> {
  const id = crypto.randomUUID();
  await transaction(database, async (tx) => {
    await tx.query('SET LOCAL session_replication_role = replica');
    await tx.query(
      `INSERT INTO "storageCluster" (id, name, state, "zoneId", monitors, fsid) VALUES ($1::uuid, $1::text, 'ready', $2, '[]', 'fsid')`,
      [id, zoneId],
    );
    await tx.query(
      `INSERT INTO "storagePool" (id, name, state, "storageClusterId", "zoneId", "clusterIds", pool, "storageClass", capacity)
       SELECT gen_random_uuid(), 'pool', 'ready', $1, $2, ARRAY["clusterId"], 'pool', 'ssd', '{}' FROM "host" WHERE id = $3`,
      [id, zoneId, of],
    );
  });
  return id;
}
const note = async (hostId: string, health: string, by = holder): Promise<boolean> =>
  (await noteHealth(database.connections, { hostId, health, reason: health, shard: shardOf(hostId), holder: by }))
    .length > 0;
/** Whoever carries these hosts has not said anything of them for long. */
const forget = (ids: string[]): Promise<unknown> =>
  query(`UPDATE "shardLease" SET "toldAt" = now() - interval '1 minute' WHERE shard = ANY($1)`, [ids.map(shardOf)]);
const counted = async (): Promise<unknown> => (await zoneHeard(database.connections, { zoneId }))[0];
const healthOf = async (hostId: string): Promise<unknown> =>
  (await silentHost(database.connections, { hostId }))[0]?.health;

test('a host is down only after it was suspect, and only from the one who carries it', async () => {
  const [id = ''] = hostIds;
  expect(await note(id, 'suspect'), 'it is heard').toBe(false);
  await silence([id]);
  expect(await note(id, 'down'), 'it was not suspect').toBe(false);
  expect(await note(id, 'suspect', 'worker#late')).toBe(false);
  expect(await note(id, 'suspect')).toBe(true);
  expect(await note(id, 'down', 'worker#late')).toBe(false);
  expect(await note(id, 'down')).toBe(true);
  expect(await healthOf(id)).toBe('down');
  expect(await noteWell(database.connections, { hostId: id }), 'it is silent still').toEqual([]);
  await query(`UPDATE "host" SET connection = 'connected' WHERE id = $1`, [id]);
  expect(await noteWell(database.connections, { hostId: id })).toHaveLength(1);
  expect(await note(id, 'down'), 'it is heard again').toBe(false);
  expect(await healthOf(id)).toBe('well');
});

test('a host in maintenance is missed by nobody, and its silence counts for nothing in its zone', async () => {
  const [id = '', other = ''] = hostIds;
  await silence([id, other]);
  await change([id], `state = 'maintenance'`);
  expect(await silentHost(database.connections, { hostId: id })).toEqual([]);
  expect(await note(id, 'suspect')).toBe(false);
  expect(await silentHost(database.connections, { hostId: other })).toHaveLength(1);
  expect(await counted()).toEqual({ hosts: 9, heard: 8 });
});

test('while most of its zone is silent a host is neither suspect nor down', async () => {
  const [id = ''] = hostIds;
  await silence(hostIds.slice(0, 6));
  expect(await note(id, 'suspect')).toBe(false);
  expect(await note(id, 'unreachable')).toBe(true);
  await query(`UPDATE "host" SET connection = 'connected' WHERE id = $1`, [hostIds[5]]);
  expect(await note(id, 'suspect')).toBe(true);
  // Their records say that they are connected, and nobody has said it again for long: whoever carried them is gone.
  await forget(hostIds);
  expect(await note(id, 'down')).toBe(false);
  await tell();
  expect(await note(id, 'down')).toBe(true);
});

test('what fails at once is counted, with what was shut out just now, and not with what was long ago', async () => {
  const failing = async (): Promise<unknown> => (await failingAtOnce(database.connections, { zoneId }))[0];
  const fail = (ids: string[], more: string): Promise<unknown> => change(ids, `health = 'down', ${more}`);
  expect(await failing()).toEqual({ failing: 0, allowed: 2 });
  await fail(hostIds.slice(0, 1), `"healthSince" = now() - interval '1 day'`);
  expect(await failing(), 'one that was never shut out').toEqual({ failing: 1, allowed: 2 });
  await fail(hostIds.slice(0, 1), `state = 'fenced', "healthSince" = now() - interval '1 day'`);
  expect(await failing()).toEqual({ failing: 0, allowed: 2 });
  await fail(hostIds.slice(1, 3), `state = 'fenced', "healthSince" = now()`);
  expect(await failing()).toEqual({ failing: 2, allowed: 2 });
});

test('what is never shut out by itself keeps nobody from it, however long it is down', async () => {
  const failing = async (): Promise<unknown> => (await failingAtOnce(database.connections, { zoneId }))[0];
  const [one = '', other = '', third = ''] = hostIds;
  const monthAgo = `health = 'down', "healthSince" = now() - interval '1 month'`;
  await change([one, other], monthAgo);
  await change([third], `health = 'down', "healthSince" = now()`);
  expect(await failing(), 'they wait for a person').toEqual({ failing: 3, allowed: 2 });
  const cluster = crypto.randomUUID();
  await query(
    `INSERT INTO "cluster" (id, name, "podId", "zoneId", ha)
     SELECT $1::uuid, $1::text, "podId", "zoneId", '{"enabled":false,"requireFence":true,"suspectSeconds":3}' FROM "host" WHERE id = $2`,
    [cluster, one],
  );
  await change([one], `"clusterId" = '${cluster}'`);
  expect(await failing(), 'the cluster of one does not fail over').toEqual({ failing: 2, allowed: 2 });
  const storageClusterId = await sharedPool(other);
  await noteClients(database.connections, { hostId: third, storageClusterId, addresses: ['10.0.0.3'] });
  expect(await failing(), 'nobody knows how another is shut out').toEqual({ failing: 1, allowed: 2 });
  // A person has failed it over: that is one of those that fail now.
  await change([one], `state = 'fenced', "healthSince" = now()`);
  expect(await failing()).toEqual({ failing: 2, allowed: 2 });
});

test('up to three others of its cluster are asked about a host, and only such as are heard', async () => {
  const [id = '', ...others] = hostIds;
  await silence([id, ...others.slice(0, 3)]);
  await forget(others.slice(3, 4));
  const [silent] = await silentHost(database.connections, { hostId: id });
  expect(silent).toMatchObject({ failsOver: true });
  expect(await counted()).toEqual({ hosts: 10, heard: 5 });
  expect(silent?.peers).toHaveLength(3);
  for (const peer of silent?.peers ?? []) expect(others.slice(4)).toContain(peer);
});

test('whom one asks about a host changes from look to look', async () => {
  const [id = ''] = hostIds;
  const asked = new Set<string>();
  for (let look = 0; look < 10; look += 1)
    for (const peer of (await silentHost(database.connections, { hostId: id }))[0]?.peers ?? []) asked.add(peer);
  expect(asked.size).toBeGreaterThan(3);
});

test('of each shard its first host that can be asked is where the audit begins', async () => {
  await silence(hostIds.slice(0, 1));
  const { rows } = await database.connections.query(
    `SELECT DISTINCT ON (shard) id FROM "host" WHERE connection = 'connected' AND state IN ('active', 'enteringMaintenance', 'maintenance')
       AND "deadAt" IS NULL AND "fencedAt" IS NULL ORDER BY shard, id`,
  );
  expect(rows.length).toBeGreaterThanOrEqual(9);
  expect(await firstToScan(database.connections)).toEqual(rows);
});

test('the database counts hosts to the same shards as the workers', async () => {
  const ids = Array.from({ length: 200 }, () => crypto.randomUUID());
  const { rows } = await database.connections.query('SELECT id, belay_shard(id) AS shard FROM unnest($1::uuid[]) id', [
    ids,
  ]);
  expect(rows).toEqual(ids.map((id) => ({ id, shard: shardOf(id) })));
  const { rows: hosts } = await database.connections.query('SELECT id, shard FROM "host" WHERE id = ANY($1)', [
    hostIds,
  ]);
  expect(hosts).toHaveLength(hostIds.length);
  for (const { id, shard } of hosts) expect(shard).toBe(shardOf(id));
});

test('that hosts are connected is noted for all at once, by the one who carries them alone, with what was concluded of them', async () => {
  const [id = '', other = ''] = hostIds;
  await silence([id, other]);
  expect(await note(id, 'suspect')).toBe(true);
  expect(await noteConnected(database.connections, { ids: [id, other], holder: 'worker#late' })).toEqual([]);
  expect(await counted()).toEqual({ hosts: 10, heard: 8 });
  expect(await noteConnected(database.connections, { ids: [id, other], holder })).toEqual(
    expect.arrayContaining([
      { id, isIll: true },
      { id: other, isIll: false },
    ]),
  );
  expect(await counted()).toEqual({ hosts: 10, heard: 10 });
});

test('that the control plane does not hear a host proves nothing: others are asked, unless they were asked twice or a person knows', async () => {
  const [id = ''] = hostIds;
  const proven = (confirmDead = false) => isProvenDown({ database } as World, id, { confirmDead });
  expect(await proven()).toEqual({ isDown: false, why: 'it is connected' });
  await silence([id]);
  // Nobody listens at its address, and nobody carries the hosts that could be asked.
  await forget(hostIds);
  await change([id], `address = 'sim://127.0.0.1:1/host-1'`);
  expect(await proven()).toEqual({ isDown: false, why: expect.stringMatching(/fewer than two others miss it/) });
  expect((await proven(true)).isDown).toBe(true);
  await change([id], `health = 'suspect', "healthReason" = 'They are asked once more.'`);
  expect((await proven()).isDown).toBe(false);
  await change([id], `health = 'unreachable', "healthReason" = 'others see it'`);
  expect(await proven()).toEqual({ isDown: false, why: 'others see it' });
  await change([id], `health = 'down'`);
  expect((await proven()).isDown).toBe(true);
  // A kernel that refuses a connection lives.
  await change([id], `health = 'well', address = '127.0.0.1', "sshPort" = 1`);
  expect(await proven()).toEqual({ isDown: false, why: 'it answers' });
});

describe('a host of which it is not known how it is shut out', () => {
  const log: Log = Object.assign(() => {}, { info() {}, warn() {}, error() {}, debug() {} }) as unknown as Log;
  let storageClusterId: string;
  beforeEach(async () => {
    storageClusterId = await sharedPool();
  });
  const failover = (hostId: string, input: { confirmDead?: boolean }): Promise<unknown> =>
    acceptAs(
      database,
      systemCaller(),
      { kind: kindOf('host'), verb: 'failover', targetId: hostId, body: input },
      { requestId: 'test' },
    );
  const findingsOf = async (hostId: string): Promise<unknown[]> =>
    (
      await database.connections.query(
        `SELECT what, actual FROM "finding" WHERE "resourceId" = $1 AND state = 'open' ORDER BY what`,
        [hostId],
      )
    ).rows;

  test('fails over on the word of a person alone, and whoever asks is told so at once', async () => {
    const [id = ''] = hostIds;
    await silence([id]);
    await change([id], `health = 'down'`);
    await expect(failover(id, {})).rejects.toMatchObject({
      code: 'PRECONDITION_FAILED',
      message: expect.stringContaining('it is not known by which addresses'),
    });
    await failover(id, { confirmDead: true });
  });

  test('is a finding that says so when it is down, until it is shut out', async () => {
    const [id = ''] = hostIds;
    await silence([id]);
    await change([id], `address = '10.0.0.1'`);
    const answers: Record<string, unknown> = {
      'peer.probe': { signs: ['silent'] },
      'heartbeat.watch': { moved: [], still: [id] },
    };
    const everybodyMissesIt = { connect: async () => ({ call: async (name: string) => answers[name] }) };
    const detector = detection(
      { database, log } as Pick<WorkerProcess, 'database' | 'log'>,
      everybodyMissesIt as unknown as HostConnections,
      holder,
    );
    const since = new Date();
    expect(await detector.look(id, since), 'it is suspect').toBe(true);
    await detector.look(id, since);
    const refused = {
      what: 'hostDown',
      actual: expect.stringMatching(/Its failover was refused: it is not known by which addresses/),
    };
    expect(await findingsOf(id)).toEqual([refused]);
    // It is known now, and the failover begins: that may fail as well.
    await noteClients(database.connections, { hostId: id, storageClusterId, addresses: ['10.0.0.1'] });
    await detector.look(id, since);
    const { rows } = await database.connections.query('SELECT type FROM "operation" WHERE "targetId" = $1', [id]);
    expect(rows).toEqual([{ type: 'host.failover' }]);
    expect(await findingsOf(id)).toEqual([refused]);
  });
});

describe('a host that is shut out', () => {
  const hostNow = async (id: string): Promise<Record<string, unknown>> =>
    (await database.connections.query('SELECT * FROM "host" WHERE id = $1', [id])).rows[0];
  /** Not begun yet. */
  const operation = async (hostId: string, type: string, input: unknown): Promise<string> => {
    const id = crypto.randomUUID();
    await query(
      `INSERT INTO "operation" (id, state, type, "targetKind", "targetId", input, "createdAt", "updatedAt") VALUES ($1, 'queued', $2, 'host', $3, $4, now(), now())`,
      [id, type, hostId, JSON.stringify(input)],
    );
    return id;
  };
  const takeBack = (operationId: string): Promise<unknown[]> => takeBackWord(database.connections, { operationId });

  test('is dead no longer than an operation says so that may still begin', async () => {
    const [id = ''] = hostIds;
    await silence([id]);
    const [failover, deletion, plain] = [
      await operation(id, 'host.failover', { confirmDead: true }),
      await operation(id, 'host.delete', { confirmDead: true }),
      await operation(id, 'host.failover', {}),
    ];
    await declareDeadAtOnce(database.connections, { hostId: id });
    await takeBack(plain);
    await takeBack(failover);
    expect((await hostNow(id)).deadAt, 'the other one still says so').not.toBeNull();
    await query(`UPDATE "operation" SET "endedAt" = now() WHERE id = $1`, [failover]);
    await takeBack(deletion);
    expect((await hostNow(id)).deadAt).toBeNull();
  });

  test('is so when storage has said it, or a person that it is off; a fence that was skipped is none', async () => {
    const [id = ''] = hostIds;
    const operationId = await operation(id, 'host.failover', {});
    await change([id], `"currentOperationId" = '${operationId}'`);
    const noted = async (confirmDead: boolean): Promise<unknown[]> =>
      transaction(database, async (tx) => {
        await tx.query(`SELECT set_config('belay.operation', $1, true)`, [operationId]);
        return noteFenced(tx, { hostId: id, operationId, confirmDead });
      });
    const livesOn = `health = 'unreachable', "healthReason" = 'So it lives, and its guests are left alone.'`;
    await change([id], livesOn);
    expect(await noted(false)).toEqual([]);
    expect(await hostNow(id)).toMatchObject({ fencedAt: null, health: 'unreachable' });
    expect(await noted(true)).toHaveLength(1);
    const off = { health: 'down', healthReason: 'It is off, as a person or its BMC says, and has been failed over.' };
    expect(await hostNow(id)).toMatchObject({ fencedAt: expect.any(Date), ...off });
    // As its BMC says that it is off.
    await change([id], `"fencedAt" = NULL, "deadAt" = now(), ${livesOn}`);
    expect(await noted(false)).toHaveLength(1);
    expect(await hostNow(id)).toMatchObject(off);
    await change([id], `"fencedAt" = now(), "deadAt" = NULL, ${livesOn}`);
    expect(await noted(false)).toHaveLength(1);
    expect(await hostNow(id)).toMatchObject({
      health: 'down',
      healthReason: 'It is shut out of its storage, whether it lives or not, and has been failed over.',
    });
    // What is known of one that is down already says more.
    await change([id], `"healthReason" = 'Nobody hears it.'`);
    expect(await noted(false)).toHaveLength(1);
    expect(await hostNow(id)).toMatchObject({ health: 'down', healthReason: 'Nobody hears it.' });
  });

  test('is to be reinstated, and one that is only away connected again, before it can be cleaned', async () => {
    const [id = ''] = hostIds;
    await silence([id]);
    const disable = () => hostRemoval({ database } as World).disable.do({ hostId: id }, {} as never);
    await expect(disable()).rejects.toThrow('connect it again, or delete it with force');
    await change([id], `"fencedAt" = now()`);
    await expect(disable()).rejects.toThrow('reinstate it, or delete it with force');
  });

  test('is so at each address that it ever had, until another host has that', async () => {
    const [one = '', other = ''] = hostIds;
    const storageClusterId = crypto.randomUUID();
    const known = async (hostId: string): Promise<unknown> =>
      ((await hostNow(hostId)).storageClients as Record<string, unknown> | null)?.[storageClusterId];
    const noteAt = (hostId: string, ...addresses: string[]): Promise<unknown> =>
      noteClients(database.connections, { hostId, storageClusterId, addresses });
    await noteAt(one, '10.0.0.1');
    await noteAt(one, '10.0.0.2', 'fd00::2');
    expect(await known(one)).toEqual(['10.0.0.1', '10.0.0.2', 'fd00::2']);
    await noteAt(other, '10.0.0.1');
    expect([await known(one), await known(other)]).toEqual([['10.0.0.2', 'fd00::2'], ['10.0.0.1']]);
  });
});
