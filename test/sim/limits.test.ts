/** Limits of sizes, room, disks and processors hold on every way that leads past them. */
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import type { Api, ApiProblem, OperationView, Resource } from '../../lab/api.ts';
import { instanceBody, make } from '../../lab/provision.ts';
import { smallRawDisk } from '../../lab/underlay.ts';
import { diskSlots } from '../../model/storage/volume.ts';
import { joinCloud } from '../support/cloud.ts';

const address = inject('cloud');
const { admin, cloud, deploy } = joinCloud(address);
const { tenant } = cloud;
const database = new pg.Client({ connectionString: address.databaseUrl });
afterAll(() => database.end());

const zoneId = cloud.zone.id;
const json = { 'content-type': 'application/json' };
async function code(api: Api, method: string, path: string, body: unknown): Promise<string> {
  const response = await api.raw(method, path, JSON.stringify(body), json);
  const problem = (await response.json()) as ApiProblem;
  return response.ok ? 'accepted' : problem.code;
}
const act = (plural: string, id: string, verb: string, body: unknown = {}): Promise<OperationView> =>
  tenant.done('POST', `/v1/${plural}/${id}/actions/${verb}`, body);
const snapshot = (volumeId: unknown): Promise<Resource> => make(tenant, 'snapshots', { name: 's', volumeId });
async function end(plural: string, id: string): Promise<void> {
  await tenant.done('DELETE', `/v1/${plural}/${id}`);
  await act(plural, id, 'expunge');
}

/** A pool that alone has this storage class, and a volume type that leads to it. */
async function poolOf(storageClass: string): Promise<{ poolId: string; volumeTypeId: string }> {
  const pool = await make(admin, 'storage-pools', {
    name: storageClass,
    pool: storageClass,
    storageClass,
    replicas: 1,
    failureDomain: 'osd',
    storageClusterId: cloud.storageCluster.id,
    clusterIds: [cloud.cluster.id],
  });
  const type = await admin.call('POST', '/v1/volume-types', { name: storageClass, storageClass });
  return { poolId: pool.id, volumeTypeId: type.id };
}

describe('the size of a volume', () => {
  const storageClass = `l${crypto.randomUUID().slice(0, 8)}`;
  let volumeTypeId = '';
  let poolId = '';
  let volumeId = '';
  /** Of 5 GiB, where the volume has 3 now. */
  let larger = '';
  const ask = (path: string, body: unknown): Promise<string> => code(tenant, 'POST', `${path}?dryRun=true`, body);
  const body = (more: Record<string, unknown>) => ({ name: 'v', zoneId, volumeTypeId, sizeGib: 5, ...more });
  const root = (more: Record<string, unknown>) =>
    instanceBody(cloud, 'i', { rootVolume: { volumeTypeId, sizeGib: 5 }, ...more });

  /** Every action that makes a volume of 5 GiB, or one of 3 as large as that. */
  const actions: Record<string, () => Promise<string>> = {
    'volume.create': () => ask('/v1/volumes', body({})),
    'volume.create from an image': () => ask('/v1/volumes', body({ source: { imageId: cloud.image.id } })),
    'volume.create from a snapshot': () => ask('/v1/volumes', body({ source: { snapshotId: larger } })),
    'volume.create as large as its snapshot': () =>
      ask('/v1/volumes', { name: 'v', zoneId, volumeTypeId, source: { snapshotId: larger } }),
    'volume.resize': () => ask(`/v1/volumes/${volumeId}/actions/resize`, { sizeGib: 5 }),
    'volume.revert': () => ask(`/v1/volumes/${volumeId}/actions/revert`, { snapshotId: larger }),
    'instance.create with a root': () => ask('/v1/instances', root({})),
    'instance.create with a root from a snapshot': () => ask('/v1/instances', root({ source: { snapshotId: larger } })),
    'instance.create with data': () =>
      ask('/v1/instances', instanceBody(cloud, 'i', { dataVolumes: [{ volumeTypeId, sizeGib: 5 }] })),
  };

  const type = (values: Record<string, unknown>): Promise<unknown> =>
    admin.call('PATCH', `/v1/volume-types/${volumeTypeId}`, values);
  const total = (gib: number): Promise<unknown> =>
    database.query(`UPDATE "storagePool" SET "totalGib" = $2 WHERE id = $1`, [poolId, gib]);
  let quotaId = '';
  const limits: Record<string, { code: string; set(): Promise<unknown>; lift(): Promise<unknown> }> = {
    'the most that its type allows': {
      code: 'INVALID_ARGUMENT',
      set: () => type({ maxSizeGib: 4 }),
      lift: () => type({ maxSizeGib: null }),
    },
    'the least that its type allows': {
      code: 'INVALID_ARGUMENT',
      set: () => type({ minSizeGib: 6 }),
      lift: () => type({ minSizeGib: null }),
    },
    'that its type is offered': {
      code: 'INVALID_ARGUMENT',
      set: () => type({ enabled: false }),
      lift: () => type({ enabled: true }),
    },
    'a quota of GiB': {
      code: 'QUOTA_EXCEEDED',
      async set() {
        const { rows } = await database.query<{ gib: number }>(
          `SELECT coalesce(sum("sizeGib"), 0)::int + 1 AS gib FROM "volume" WHERE "projectId" = $1 AND "deletedAt" IS NULL`,
          [cloud.project.id],
        );
        const scope = { scopeKind: 'project', scopeId: cloud.project.id };
        quotaId = (
          await admin.call('POST', '/v1/quotas', { name: 'q', ...scope, counter: 'volumeGib', limit: rows[0]?.gib })
        ).id;
      },
      lift: () => admin.call('DELETE', `/v1/quotas/${quotaId}`),
    },
    // The volume's 3 GiB, and 1 more.
    'the room of its pool': { code: 'NO_CAPACITY', set: () => total(4), lift: () => total(1000) },
  };

  beforeAll(async () => {
    await database.connect();
    ({ poolId, volumeTypeId } = await poolOf(storageClass));
    ({ id: volumeId } = await make(tenant, 'volumes', { name: 'v', zoneId, volumeTypeId, sizeGib: 3 }));
    const { id: smaller } = await snapshot(volumeId);
    await act('volumes', volumeId, 'resize', { sizeGib: 5 });
    ({ id: larger } = await snapshot(volumeId));
    await act('volumes', volumeId, 'revert', { snapshotId: smaller });
    expect((await tenant.call('GET', `/v1/volumes/${volumeId}`)).sizeGib).toBe(3);
  });

  test('may be 5 GiB where nothing forbids it, by every action', async () => {
    for (const [name, action] of Object.entries(actions)) expect([name, await action()]).toEqual([name, 'accepted']);
  });

  test.each(Object.keys(limits))('keeps to %s, by every action', async (name) => {
    const limit = limits[name];
    if (!limit) throw new Error(name);
    await limit.set();
    try {
      const answers = await Promise.all(
        Object.entries(actions).map(async ([action, asked]) => [action, await asked()] as const),
      );
      expect(Object.fromEntries(answers)).toEqual(
        Object.fromEntries(Object.keys(actions).map((action) => [action, limit.code])),
      );
    } finally {
      await limit.lift();
    }
  });

  test('keeps to a quota and to the room of the pool when it grows by a revert and by a resize at once', async () => {
    await total(5);
    const grow = [
      code(tenant, 'POST', `/v1/volumes/${volumeId}/actions/revert`, { snapshotId: larger }),
      make(tenant, 'volumes', { name: 'w', zoneId, volumeTypeId, sizeGib: 2 }).then(
        ({ id }) => id,
        () => 'refused',
      ),
    ];
    const [, other] = await Promise.all(grow);
    for (let state = ''; state !== 'ready'; )
      state = String((await tenant.call('GET', `/v1/volumes/${volumeId}`)).state);
    const { rows } = await database.query<{ gib: number }>(
      `SELECT sum("sizeGib")::int AS gib FROM "volume" WHERE "poolId" = $1 AND "deletedAt" IS NULL`,
      [poolId],
    );
    expect(rows[0]?.gib).toBeLessThanOrEqual(5);
    await total(1000);
    if (other && other !== 'refused') await end('volumes', other);
  });

  test('has a type whose least is not more than its most', async () => {
    expect(await code(admin, 'PATCH', `/v1/volume-types/${volumeTypeId}`, { minSizeGib: 9, maxSizeGib: 8 })).toBe(
      'INVALID_ARGUMENT',
    );
    await type({ maxSizeGib: 8 });
    expect(await code(admin, 'PATCH', `/v1/volume-types/${volumeTypeId}`, { minSizeGib: 9 })).toBe('INVALID_ARGUMENT');
    await type({ maxSizeGib: null });
    const turned = { name: 'turned', storageClass, minSizeGib: 3, maxSizeGib: 2 };
    expect(await code(admin, 'POST', '/v1/volume-types', turned)).toBe('INVALID_ARGUMENT');
  });
});

test('a volume whose type is not offered any more is attached, used and detached as ever: only new space of it is closed', async () => {
  const { id: volumeTypeId } = await admin.call('POST', '/v1/volume-types', {
    name: 'closing',
    storageClass: String(cloud.volumeTypes[0]?.storageClass),
  });
  const { id } = await make(tenant, 'volumes', { name: 'v', zoneId, volumeTypeId, sizeGib: 1 });
  const { id: instanceId } = await deploy('closing');
  await admin.call('PATCH', `/v1/volume-types/${volumeTypeId}`, { enabled: false });
  await act('volumes', id, 'attach', { instanceId });
  expect(await code(tenant, 'POST', `/v1/volumes/${id}/actions/resize`, { sizeGib: 2 })).toBe('INVALID_ARGUMENT');
  await act('volumes', id, 'detach');
  const { id: snapshotId } = await snapshot(id);
  await act('volumes', id, 'revert', { snapshotId });
  await tenant.done('DELETE', `/v1/snapshots/${snapshotId}`);
  await end('volumes', id);
  await end('instances', instanceId);
  await admin.call('DELETE', `/v1/volume-types/${volumeTypeId}`);
});

test('the copies of images that nothing lives on go when an operator says so, and the others stay', async () => {
  const storageClass = `c${crypto.randomUUID().slice(0, 8)}`;
  const { poolId, volumeTypeId } = await poolOf(storageClass);
  const source = { imageId: cloud.image.id };
  const { id } = await make(tenant, 'volumes', { name: 'v', zoneId, volumeTypeId, source });
  const copies = async (): Promise<number> =>
    (await database.query(`SELECT 1 FROM "imageCache" WHERE "poolId" = $1`, [poolId])).rowCount ?? 0;
  const clean = async (body: unknown): Promise<unknown> =>
    (await admin.done('POST', `/v1/storage-pools/${poolId}/actions/cleanCache`, body)).result;
  expect(await clean({ unusedForSeconds: 0 })).toEqual({ imageIds: [] });
  await end('volumes', id);
  // It was of use a moment ago.
  expect([await clean({}), await copies()]).toEqual([{ imageIds: [] }, 1]);
  expect([await clean({ unusedForSeconds: 0 }), await copies()]).toEqual([{ imageIds: [cloud.image.id] }, 0]);
  const { id: again } = await make(tenant, 'volumes', { name: 'v', zoneId, volumeTypeId, source });
  await end('volumes', again);
  expect(await code(tenant, 'POST', `/v1/storage-pools/${poolId}/actions/cleanCache`, {})).toBe('NOT_FOUND');
  await admin.done('DELETE', `/v1/storage-pools/${poolId}`);
  await admin.call('DELETE', `/v1/volume-types/${volumeTypeId}`);
});

test('a volume is not made from an image that is not offered, neither alone nor as a root', async () => {
  await admin.call('PATCH', `/v1/images/${cloud.image.id}`, { enabled: false });
  try {
    const source = { imageId: cloud.image.id };
    const volume = { name: 'v', zoneId, volumeTypeId: cloud.volumeTypes[0]?.id, source };
    expect(await code(tenant, 'POST', '/v1/volumes?dryRun=true', volume)).toBe('INVALID_ARGUMENT');
    expect(await code(tenant, 'POST', '/v1/instances?dryRun=true', instanceBody(cloud, 'i'))).toBe('INVALID_ARGUMENT');
  } finally {
    await admin.call('PATCH', `/v1/images/${cloud.image.id}`, { enabled: true });
  }
});

test('a guest runs on no processor but those it was made for: from an image, and from a snapshot of a disk of that', async () => {
  const image = await tenant.call('POST', '/v1/images', { name: 'arm', zoneId, architecture: 'aarch64' });
  const sent = await tenant.raw('PUT', `/v1/images/${image.id}/content`, smallRawDisk(), {
    'content-type': 'application/octet-stream',
  });
  await tenant.settled(((await sent.json()) as OperationView).id);
  const body = { name: 'v', zoneId, volumeTypeId: cloud.volumeTypes[0]?.id, source: { imageId: image.id } };
  const volume = await make(tenant, 'volumes', body);
  const before = await snapshot(volume.id);
  const copy = await make(tenant, 'volumes', { ...body, source: { snapshotId: before.id } });
  const again = await snapshot(copy.id);
  for (const source of [{ imageId: image.id }, { snapshotId: before.id }, { snapshotId: again.id }])
    for (const asked of ['?dryRun=true', ''])
      expect(await code(tenant, 'POST', `/v1/instances${asked}`, instanceBody(cloud, 'arm', { source }))).toBe(
        'NO_CAPACITY',
      );
  for (const { id } of [again, before]) await tenant.done('DELETE', `/v1/snapshots/${id}`);
  for (const { id } of [copy, volume]) await end('volumes', id);
  await tenant.done('DELETE', `/v1/images/${image.id}`);
});

test('an instance has as many disks as it has slots, each in one of its own, however many are attached at once', async () => {
  const { id } = await deploy('disks', { dataVolumes: Array.from({ length: 14 }, () => ({ sizeGib: 1 })) });
  const volume = (): Promise<Resource> =>
    make(tenant, 'volumes', { name: 'v', zoneId, volumeTypeId: cloud.volumeTypes[0]?.id, sizeGib: 1 });
  const more = await Promise.all(Array.from({ length: 12 }, volume));
  await Promise.all(more.map((one) => act('volumes', one.id, 'attach', { instanceId: id })));
  const slots = async (): Promise<number[]> =>
    (
      await tenant.call<{ items: { deviceIndex: number }[] }>(
        'GET',
        `/v1/volumes?pageSize=100&filter=${encodeURIComponent(`instanceId = "${id}"`)}`,
      )
    ).items
      .map(({ deviceIndex }) => deviceIndex)
      .sort((a, b) => a - b);
  expect(await slots()).toEqual([...Array(27).keys()]);

  // The others stand in the records alone.
  await database.query(
    `INSERT INTO "volume" SELECT (json_populate_record(v, json_build_object('id', gen_random_uuid(), 'deviceIndex', slot, 'currentOperationId', NULL))).*
     FROM "volume" v, generate_series(27, $2) slot WHERE v.id = $1`,
    [more[0]?.id, diskSlots - 1],
  );
  const last = await volume();
  const attach = () => code(tenant, 'POST', `/v1/volumes/${last.id}/actions/attach`, { instanceId: id });
  expect(await attach()).toBe('NOT_SUPPORTED');
  // Past the rule that only the operation which holds it says where it is.
  await database.query(`SELECT set_config('belay.operation', 'migration', false)`);
  await expect(
    database.query(`UPDATE "volume" SET "instanceId" = $2, "deviceIndex" = 5 WHERE id = $1`, [last.id, id]),
  ).rejects.toThrow(/volume_instanceId_deviceIndex_living/);
  await expect(database.query(`UPDATE "volume" SET "instanceId" = $2 WHERE id = $1`, [last.id, id])).rejects.toThrow(
    /volume_attached_has_slot/,
  );
  await database.query(`SELECT set_config('belay.operation', '', false)`);
  await database.query(`DELETE FROM "volume" WHERE "instanceId" = $1 AND "deviceIndex" >= 27`, [id]);
  await end('instances', id);
  await end('volumes', last.id);
});

test('the root of a stopped instance is reverted where it is; of a running one it is not', async () => {
  const { id } = await deploy('reverted');
  const { rootVolumeId } = await tenant.call('GET', `/v1/instances/${id}`);
  const before = await snapshot(rootVolumeId);
  const revert = `/v1/volumes/${String(rootVolumeId)}/actions/revert`;
  expect(await code(tenant, 'POST', revert, { snapshotId: before.id })).toBe('INVALID_STATE');
  await act('instances', id, 'stop', { mode: 'force' });
  await tenant.done('POST', revert, { snapshotId: before.id });
  await act('instances', id, 'start');
  await tenant.done('DELETE', `/v1/snapshots/${before.id}`);
  await end('instances', id);
});
