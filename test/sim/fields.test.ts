/** Fields that close a place, name an end or tell guests something do so. */

import type pg from 'pg';
import { afterAll, afterEach, beforeAll, expect, inject, test } from 'vitest';
import { ApiError, type Resource } from '../../lab/api.ts';
import { instanceBody, make } from '../../lab/provision.ts';
import { smallRawDisk } from '../../lab/underlay.ts';
import { joinCloud } from '../support/cloud.ts';
import { maintainUntil } from '../support/maintenance.ts';
import { openClient } from '../support/postgres.ts';
import { simulatorInventory } from '../support/simulated.ts';

const address = inject('cloud');
const { admin, cloud, deploy, removeInstance } = joinCloud(address);
const { tenant } = cloud;
const rootDomain = '00000000-0000-4000-8000-000000000002';

let database: pg.Client;
beforeAll(async () => {
  database = await openClient(address.databaseUrl);
});
afterAll(() => database.end());

/** What a test has closed is opened again whatever becomes of the test. */
const restore: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const again of [...restore].reverse()) await again();
  restore.splice(0);
});
async function close(plural: string, id: unknown): Promise<() => Promise<unknown>> {
  await admin.call('PATCH', `/v1/${plural}/${String(id)}`, { enabled: false });
  const open = (): Promise<unknown> => {
    restore.splice(restore.indexOf(open), 1);
    return admin.call('PATCH', `/v1/${plural}/${String(id)}`, { enabled: true });
  };
  restore.push(open);
  return open;
}

const answer = (asked: Promise<unknown>): Promise<string> =>
  asked.then(
    () => 'accepted',
    (error: unknown) => {
      if (!(error instanceof ApiError)) throw error;
      return `${error.problem.code} ${error.problem.violations?.[0]?.field ?? ''}`.trim();
    },
  );
const create = (plural: string, body: Record<string, unknown>): Promise<string> =>
  answer(admin.call('POST', `/v1/${plural}?dryRun=true`, { name: 'would-be', projectId: cloud.project.id, ...body }));
const zoneId = cloud.zone.id;
const volumeTypeId = cloud.volumeTypes[0]?.id;

const until = async (what: () => Promise<boolean>): Promise<void> => {
  while (!(await what())) await new Promise((resolve) => setTimeout(resolve, 100));
};

test('in a closed zone nothing of tenants is made', async () => {
  const all = (): Promise<string[]> =>
    Promise.all([
      create('instances', instanceBody(cloud, 'would-be')),
      create('volumes', { zoneId, volumeTypeId, sizeGib: 1 }),
      create('networks', { zoneId }),
      create('security-groups', { zoneId }),
      create('images', { zoneId }),
    ]);
  const open = await close('zones', zoneId);
  expect(await all()).toEqual(Array(5).fill('INVALID_ARGUMENT zoneId'));
  await open();
  expect(await all()).toEqual(Array(5).fill('accepted'));
});

test('a closed storage cluster takes no pools, and its pools no more volumes; what lies there goes on', async () => {
  const { id } = await deploy('lies-there');
  const volume = await make(tenant, 'volumes', { name: 'lies there', zoneId, volumeTypeId, sizeGib: 1 });
  const all = (): Promise<string[]> =>
    Promise.all([
      create('volumes', { zoneId, volumeTypeId, sizeGib: 1 }),
      create('instances', instanceBody(cloud, 'would-be')),
      answer(tenant.call('POST', `/v1/volumes/${volume.id}/actions/resize?dryRun=true`, { sizeGib: 2 })),
      answer(
        admin.call('POST', '/v1/storage-pools?dryRun=true', {
          name: 'would-be',
          pool: 'would-be',
          storageClass: 'x',
          storageClusterId: cloud.storageCluster.id,
          clusterIds: [cloud.cluster.id],
        }),
      ),
    ]);
  const open = await close('storage-clusters', cloud.storageCluster.id);
  expect(await all()).toEqual(['NO_CAPACITY', 'NO_CAPACITY', 'NO_CAPACITY', 'INVALID_ARGUMENT storageClusterId']);
  await tenant.done('POST', `/v1/instances/${id}/actions/stop`, { mode: 'force' });
  await tenant.done('POST', `/v1/instances/${id}/actions/start`, {});
  await open();
  expect(await all()).toEqual(Array(4).fill('accepted'));
  await removeInstance(id);
  await tenant.done('DELETE', `/v1/volumes/${volume.id}`);
});

test('in a disabled domain and below nothing is made or started; what is there stays', async () => {
  const upper = await admin.call('POST', '/v1/domains', { name: crypto.randomUUID(), parentId: rootDomain });
  const lower = await admin.call('POST', '/v1/domains', { name: crypto.randomUUID(), parentId: upper.id });
  const account = await admin.call('POST', '/v1/accounts', { name: 'below', domainId: lower.id });
  const filter = encodeURIComponent(`accountId = "${account.id}"`);
  const [project] = (await admin.call<{ items: Resource[] }>('GET', `/v1/projects?filter=${filter}`)).items;
  const network = await make(admin, 'networks', { name: 'n', zoneId, projectId: project?.id });
  const image = await admin.call('POST', '/v1/images', { name: 'i', zoneId, projectId: project?.id });
  const all = (): Promise<string[]> =>
    Promise.all([
      create('networks', { zoneId, projectId: project?.id }),
      create('subnets', { networkId: network.id, cidr: '10.3.0.0/24', projectId: project?.id }),
      answer(admin.call('POST', '/v1/projects?dryRun=true', { name: 'p', accountId: account.id })),
      answer(admin.call('POST', '/v1/users?dryRun=true', { name: 'u', userName: 'u', accountId: account.id })),
      answer(admin.call('POST', '/v1/accounts?dryRun=true', { name: 'a', domainId: lower.id })),
      answer(admin.call('POST', '/v1/domains?dryRun=true', { name: 'd', parentId: lower.id })),
    ]);
  const open = await close('domains', upper.id);
  expect(await all()).toEqual(Array(6).fill('ACCOUNT_SUSPENDED'));
  const sent = await admin.raw('PUT', `/v1/images/${image.id}/content`, smallRawDisk(), {
    'content-type': 'application/octet-stream',
  });
  expect(sent.status).toBe(403);
  await admin.call('PATCH', `/v1/networks/${network.id}`, { description: 'goes on' });
  await open();
  expect(await all()).toEqual(Array(6).fill('accepted'));
  await admin.done('DELETE', `/v1/networks/${network.id}`);
  await admin.done('DELETE', `/v1/images/${image.id}`);
  for (const [plural, id] of [
    ['accounts', account.id],
    ['domains', lower.id],
    ['domains', upper.id],
  ] as const)
    await admin.call('DELETE', `/v1/${plural}/${id}`);
});

test('a backup store that is closed, or only read, takes no new image, named or not', async () => {
  const [store] = (await admin.call<{ items: Resource[] }>('GET', '/v1/backup-stores')).items;
  for (const closing of [{ enabled: false }, { readOnly: true }]) {
    await admin.call('PATCH', `/v1/backup-stores/${store?.id}`, closing);
    restore.push(() => admin.call('PATCH', `/v1/backup-stores/${store?.id}`, { enabled: true, readOnly: false }));
    expect(await create('images', { zoneId })).toBe('INVALID_ARGUMENT backupStoreId');
    expect(await create('images', { zoneId, backupStoreId: store?.id })).toBe('INVALID_ARGUMENT backupStoreId');
    await restore.pop()?.();
  }
});

test('a snapshot past its end is deleted by an operation like any other', async () => {
  const volume = await make(tenant, 'volumes', { name: 'v', zoneId, volumeTypeId, sizeGib: 1 });
  const snapshot = (more: Record<string, unknown> = {}): Promise<Resource> =>
    make(tenant, 'snapshots', { name: 's', volumeId: volume.id, ...more });
  const soon = (): string => new Date(Date.now() + 1_500).toISOString();
  const short = await snapshot({ expiresAt: soon() });
  const lasting = await snapshot({ expiresAt: '2100-01-01T00:00:00Z' });
  const changed = await snapshot();
  await tenant.call('PATCH', `/v1/snapshots/${changed.id}`, { expiresAt: soon() });
  const gone = (id: string): Promise<boolean> =>
    answer(tenant.call('GET', `/v1/snapshots/${id}`)).then((code) => code === 'NOT_FOUND');
  for (const { id } of [short, changed]) await maintainUntil(address.temporalAddress, 'deleteExpired', () => gone(id));
  const filter = encodeURIComponent(`targetId = "${short.id}"`);
  const { items } = await tenant.call<{ items: Resource[] }>('GET', `/v1/operations?filter=${filter}`);
  expect(items.map(({ type, state }) => [type, state]).sort()).toEqual([
    ['snapshot.create', 'succeeded'],
    ['snapshot.delete', 'succeeded'],
  ]);
  expect(await gone(lasting.id)).toBe(false);
  await tenant.done('DELETE', `/v1/snapshots/${lasting.id}`);
  await tenant.done('DELETE', `/v1/volumes/${volume.id}`);
});

/** The hour in which the bytes of these images could be sent is over, which nobody but a migration may say. */
async function timeIsUp(...images: string[]): Promise<void> {
  await database.query(`SELECT set_config('belay.operation', 'migration', false)`);
  await database.query(
    `UPDATE "image" SET "uploadExpiresAt" = now() - interval '1 second' WHERE id = ANY($1::uuid[])`,
    [images],
  );
  await database.query(`SELECT set_config('belay.operation', '', false)`);
}

test('an announced image whose bytes do not come in time is not sent any more, and goes', async () => {
  const image = await tenant.call('POST', '/v1/images', { name: 'late', zoneId });
  const kept = await tenant.call('POST', '/v1/images', { name: 'in time', zoneId });
  expect(Date.parse(String(image.uploadExpiresAt))).toBeGreaterThan(Date.now());
  await timeIsUp(image.id);
  const sent = await tenant.raw('PUT', `/v1/images/${image.id}/content`, smallRawDisk(), {
    'content-type': 'application/octet-stream',
  });
  // It may be gone already.
  expect([404, 409]).toContain(sent.status);
  await maintainUntil(
    address.temporalAddress,
    'deleteExpired',
    async () => (await answer(tenant.call('GET', `/v1/images/${image.id}`))) === 'NOT_FOUND',
  );
  expect((await tenant.call('GET', `/v1/images/${kept.id}`)).state).toBe('awaitingUpload');
  await tenant.done('DELETE', `/v1/images/${kept.id}`);
});

test('bytes that have begun to come in time may come to their end', async () => {
  const image = await tenant.call('POST', '/v1/images', { name: 'slow', zoneId });
  let enough = false;
  const body = new ReadableStream({
    async start(controller) {
      controller.enqueue(smallRawDisk());
      // What does not move is ended.
      while (!enough) {
        controller.enqueue(new Uint8Array(65_536));
        await new Promise((resolve) => setTimeout(resolve, 200));
      }
      controller.close();
    },
  });
  const sent = fetch(`${address.apiUrl}/v1/images/${image.id}/content`, {
    method: 'PUT',
    headers: { authorization: `Bearer ${tenant.token}`, 'content-type': 'application/octet-stream' },
    body,
    duplex: 'half',
  } as RequestInit);
  await until(
    async () => (await database.query(`SELECT 1 FROM "upload" WHERE "imageId" = $1`, [image.id])).rowCount === 1,
  );
  const other = await tenant.call('POST', '/v1/images', { name: 'late', zoneId });
  await timeIsUp(image.id, other.id);
  await maintainUntil(
    address.temporalAddress,
    'deleteExpired',
    async () => (await answer(tenant.call('GET', `/v1/images/${other.id}`))) === 'NOT_FOUND',
  );
  expect((await tenant.call('GET', `/v1/images/${image.id}`)).state).toBe('awaitingUpload');
  enough = true;
  const accepted = (await (await sent).json()) as Resource;
  expect([accepted.type, accepted.detail]).toEqual(['image.import', undefined]);
  await tenant.settled(accepted.id);
  expect((await tenant.call('GET', `/v1/images/${image.id}`)).state).toBe('ready');
  await tenant.done('DELETE', `/v1/images/${image.id}`);
});

test('guests are told the domain of their network, else that of the zone, and the name servers of the zone where the subnet names none', async () => {
  await admin.call('PATCH', `/v1/zones/${zoneId}`, { domainName: 'zone.example', dnsServers: ['10.0.0.53'] });
  restore.push(() => admin.call('PATCH', `/v1/zones/${zoneId}`, { domainName: null, dnsServers: [] }));
  const told = async (of: Record<string, unknown>, more: Record<string, unknown> = {}): Promise<unknown> => {
    const network = await make(tenant, 'networks', { name: 'n', zoneId, ...of });
    const subnet = await make(tenant, 'subnets', { name: 's', networkId: network.id, cidr: '10.9.0.0/24', ...more });
    const { ovn } = (await simulatorInventory(address.simulatorUrl)) as unknown as {
      ovn: { OVN_Northbound: { DHCP_Options: { external_ids: Record<string, string>; options: unknown }[] } };
    };
    const row = ovn.OVN_Northbound.DHCP_Options.find(({ external_ids }) => external_ids['belay:id'] === subnet.id);
    await tenant.done('DELETE', `/v1/subnets/${subnet.id}`);
    await tenant.done('DELETE', `/v1/networks/${network.id}`);
    return row?.options;
  };
  expect(await told({})).toMatchObject({ domain_name: '"zone.example"', dns_server: '{10.0.0.53}' });
  expect(await told({ dnsDomain: 'net.example' }, { dnsServers: ['10.0.0.2'] })).toMatchObject({
    domain_name: '"net.example"',
    dns_server: '{10.0.0.2}',
  });
  for (const dnsDomain of ['x"}; drop', 'a..b', '-a', 'a.', ''])
    expect(await create('networks', { zoneId, dnsDomain })).toBe('INVALID_ARGUMENT dnsDomain');
});
