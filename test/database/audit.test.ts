/** What was found on the real systems is joined with the records in one statement, which answers only what differs or is being worked on. */
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { sightingOf as guestSighting } from '../../activities/compute/audit.ts';
import { audits } from '../../activities/platform/audit.ts';
import { sightingOf as diskSighting } from '../../activities/storage/audit.ts';
import type { World } from '../../activities/world.ts';
import { disksBesideRecords, guestsBesideRecords, toRepair } from '../../database/audit.ts';
import type { Database } from '../../database/database.ts';
import { closeAt, type Look, type Sighting, see, seeAll } from '../../database/findings.ts';
import { metrics } from '../../runtime/metrics.ts';
import { type OwnInstallation, ownInstallation } from '../support/ownDatabase.ts';

let own: OwnInstallation;
let database: Database;
const id = (): string => crypto.randomUUID();
const hostId = id();
const elsewhere = id();
const poolId = id();

beforeAll(async () => {
  own = await ownInstallation(4);
  ({ database } = own);
}, 60_000);
afterAll(async () => {
  await own.close();
});
beforeEach(async () => {
  for (const table of ['finding', 'instance', 'volume', 'imageCache', 'operation'])
    await database.connections.query(`TRUNCATE "${table}" CASCADE`);
});

async function insert(table: string, values: Record<string, unknown>): Promise<string> {
  const row: Record<string, unknown> = { id: id(), updatedAt: new Date(), ...values };
  const names = Object.keys(row);
  // References are rules of acceptance; here only what is joined has to be there.
  const client = await database.connections.connect();
  try {
    await client.query('SET session_replication_role = replica');
    await client.query(
      `INSERT INTO "${table}" (${names.map((name) => `"${name}"`).join(', ')}) VALUES (${names.map((_, at) => `$${at + 1}`).join(', ')})`,
      Object.values(row),
    );
  } finally {
    await client.query('SET session_replication_role = DEFAULT');
    client.release();
  }
  return String(row.id);
}

const instance = (values: Record<string, unknown> = {}): Promise<string> =>
  insert('instance', {
    name: 'one',
    projectId: id(),
    zoneId: id(),
    instanceTypeId: id(),
    source: '{}',
    state: 'running',
    hostId,
    ...values,
  });
const volume = (values: Record<string, unknown> = {}): Promise<string> =>
  insert('volume', {
    name: 'one',
    projectId: id(),
    zoneId: id(),
    volumeTypeId: id(),
    sizeGib: 1,
    state: 'ready',
    poolId,
    ...values,
  });
const running = (type = 'instance.create'): Promise<string> =>
  insert('operation', { type, targetKind: 'instance', targetId: id(), state: 'running', steps: '[]' });

const guest = (of: string, state = 'running', operation: string | null = null) => ({ id: of, state, operation });
async function guests(found: ReturnType<typeof guest>[]): Promise<string[]> {
  const rows = await guestsBesideRecords(database.connections, { hostId, guests: JSON.stringify(found) });
  return rows.map((row) => {
    const sighting = row.busy ? null : guestSighting(row, hostId);
    return `${row.id} ${row.busy ? 'busy' : sighting ? `${sighting.class} ${sighting.what}` : 'fine'}`;
  });
}

test('a guest that is as recorded is not answered at all', async () => {
  const [first, second] = [await instance(), await instance()];
  await instance({ hostId: null, state: 'stopped' });
  await instance({ hostId: elsewhere });
  expect(await guests([guest(first), guest(second, 'paused')])).toEqual([]);
});

test('guests are strays, missing, off, or elsewhere', async () => {
  const missing = await instance();
  const off = await instance();
  const moved = await instance({ hostId: elsewhere });
  const stopped = await instance({ hostId: null, state: 'stopped' });
  const deleted = await instance({ deletedAt: new Date() });
  const unknown = id();
  expect(
    (await guests([guest(off, 'off'), guest(moved), guest(stopped, 'off'), guest(deleted), guest(unknown)])).sort(),
  ).toEqual(
    [
      `${missing} missing guest`,
      `${off} drifted guest`,
      `${moved} misplaced guestElsewhere`,
      `${stopped} misplaced guestElsewhere`,
      `${deleted} orphan guestStray`,
      `${unknown} orphan guestStray`,
    ].sort(),
  );
});

test('of what an operation holds, or is just making, nothing is said', async () => {
  const held = await instance({ currentOperationId: id() });
  const fresh = id();
  const over = id();
  const at = await running();
  expect((await guests([guest(fresh, 'running', at), guest(over, 'running', id())])).sort()).toEqual(
    [`${held} busy`, `${fresh} busy`, `${over} orphan guestStray`].sort(),
  );
});

const sighting = (of: string, more: Partial<Sighting> = {}): Sighting => ({
  class: 'misplaced',
  severity: 'critical',
  what: 'guestElsewhere',
  resourceKind: 'instance',
  resourceId: of,
  system: 'libvirt',
  location: elsewhere,
  expected: 'here',
  actual: 'there',
  ...more,
});

test('one that runs at home while it was seen elsewhere is there twice', async () => {
  const twice = await instance();
  await see(database.connections, sighting(twice), { needed: 2 });
  expect(await guests([guest(twice)])).toEqual([`${twice} duplicate guestTwice`]);
  await closeAt(database.connections, [elsewhere]);
  expect(await guests([guest(twice)])).toEqual([]);
});

const disk = (of: string, what = 'volume', trashed = false) => ({ of: what, id: of, trashed, operation: null });
async function disks(found: ReturnType<typeof disk>[]): Promise<string[]> {
  const rows = await disksBesideRecords(database.connections, { poolId, disks: JSON.stringify(found) });
  return rows.flatMap((row) => {
    const seen = row.busy ? null : diskSighting(row, poolId, 'rbd');
    if (row.busy) return [`${row.id} busy`];
    return seen ? [`${row.id} ${seen.class} ${seen.what}`] : [];
  });
}

test('disks are as recorded, strays, missing, in another pool, or in the trash', async () => {
  const fine = await volume();
  const trashed = await volume({ state: 'destroyed' });
  const missing = await volume();
  const lost = await volume();
  const moved = await volume({ poolId: elsewhere });
  const held = await volume({ currentOperationId: id(), state: 'resizing' });
  const owner = await instance({ currentOperationId: id() });
  const withOwner = await volume({ instanceId: owner, deviceIndex: 1 });
  const [stray, thrownAway, strayImage, straySeed] = [id(), id(), id(), id()];
  const image = id();
  await database.connections.query(
    `INSERT INTO "imageCache" ("imageId", "poolId", state, "operationId") VALUES ($1, $2, 'ready', $3)`,
    [image, poolId, id()],
  );
  expect(
    (
      await disks([
        disk(fine),
        disk(trashed, 'volume', true),
        disk(lost, 'volume', true),
        disk(moved),
        disk(stray),
        disk(thrownAway, 'volume', true),
        disk(strayImage, 'image'),
        disk(straySeed, 'seed'),
        disk(owner, 'seed'),
      ])
    ).sort(),
  ).toEqual(
    [
      `${missing} missing volume`,
      `${lost} drifted volumeTrashed`,
      `${moved} misplaced volumeElsewhere`,
      `${held} busy`,
      `${withOwner} busy`,
      `${owner} busy`,
      `${stray} orphan volumeStray`,
      `${strayImage} orphan imageStray`,
      `${straySeed} orphan seedStray`,
      `${image} missing image`,
    ].sort(),
  );
});

const states = async (): Promise<string[]> =>
  (
    await database.connections.query<{ told: string }>(`SELECT "resourceId" || ' ' || state AS told FROM "finding"`)
  ).rows.map(({ told }) => told);
const look = async (): Promise<Look> => {
  const { rows } = await database.connections.query<{ at: Date }>('SELECT clock_timestamp() AS at');
  return { system: 'libvirt', location: elsewhere, what: ['guestElsewhere'], since: rows[0]?.at ?? new Date() };
};

test('a look closes what it did not meet in its place, and says nothing of what was being worked on', async () => {
  await database.connections.query(`UPDATE "setting" SET value = '0' WHERE name = 'audit.graceSeconds'`);
  const [first, second, third] = [id(), id(), id()];
  const other = sighting(id(), { location: hostId });
  for (const _ of [1, 2]) {
    await seeAll(
      database.connections,
      await look(),
      [first, second, third].map((of) => sighting(of)),
      [],
    );
    await see(database.connections, other, { needed: 2 });
  }
  await seeAll(database.connections, await look(), [sighting(first)], [second]);
  expect((await states()).sort()).toEqual(
    [`${first} open`, `${second} open`, `${third} gone`, `${other.resourceId} open`].sort(),
  );
});

test('a look that began before another closes nothing that the other has met since', async () => {
  const early = await look();
  const of = id();
  await see(database.connections, sighting(of));
  await seeAll(database.connections, early, [], []);
  expect(await states()).toEqual([`${of} open`]);
});

test('what is repaired without asking is what the setting says, once for all that the same would mend', async () => {
  const repair = { action: 'network.repair', targetId: id(), input: {} };
  const port = (more: Partial<Sighting> = {}) =>
    sighting(id(), { class: 'missing', what: 'portRows', system: 'ovn', repair, ...more });
  for (const one of [port(), port(), port({ class: 'orphan' }), port({ repair: null })])
    await see(database.connections, one);
  expect(await toRepair(database.connections, { systems: ['ovn'] })).toHaveLength(1);
  expect(await toRepair(database.connections, { systems: ['libvirt'] })).toEqual([]);
  const [{ id: findingId } = { id: '' }] = await toRepair(database.connections, { systems: ['ovn'] });
  await insert('operation', {
    type: 'finding.repair',
    targetKind: 'finding',
    targetId: findingId,
    state: 'failed',
    steps: '[]',
  });
  const again = await toRepair(database.connections, { systems: ['ovn'] });
  expect(again.map((one) => one.id)).not.toContain(findingId);
});

test('a pool that no connected host reaches is told as one that can not be looked at', async () => {
  const pool = await insert('storagePool', {
    name: 'one',
    type: 'nfs',
    storageClass: 'one',
    state: 'ready',
    zoneId: id(),
  });
  const step = audits({ database } as unknown as World).pools;
  expect(await step.do({ id: null }, {} as never)).toEqual({ pools: [] });
  expect((await metrics.poolUp.get()).values).toContainEqual({ labels: { pool, type: 'nfs' }, value: 0 });
});
