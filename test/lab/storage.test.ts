/** Every type of pool under real guests; and what only a real Ceph can show: chains of snapshots and clones, many disks, a raw image on its way. */
import { execFileSync } from 'node:child_process';
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { afterAll, beforeAll, expect, inject, test } from 'vitest';
import { type ApiError, type OperationView, openApi, type Resource } from '../../lab/api.ts';
import { instanceBody, make } from '../../lab/provision.ts';
import { sharedDirectory } from '../../lab/real/host.ts';
import { type Inventory, openInventory } from '../../lab/real/inventory.ts';
import { attachLab, type Lab } from '../../lab/real/lab.ts';
import { serialUntil } from '../../lab/serial.ts';
import { storageSuite } from '../support/storage.ts';
import { inGuest } from './guest.ts';

const { home, apiUrl, token, cloud: provisioned } = inject('lab');
const admin = openApi(apiUrl, token);
const tenant = admin.as(provisioned.tenantToken);
const cloud = { ...provisioned, tenant };

let lab: Lab;
let inventory: Inventory;
beforeAll(async () => {
  lab = await attachLab(home);
  inventory = await openInventory(home);
  await lab.execHost(1, ['mkdir', '-p', ...Object.values(directory)]);
});
afterAll(async () => {
  await lab?.execHost(1, ['rmdir', ...Object.values(directory)]);
  await inventory?.close();
});

const act = (plural: string, id: string, verb: string, body: unknown = {}): Promise<OperationView> =>
  tenant.done('POST', `/v1/${plural}/${id}/actions/${verb}`, body);
const remove = (plural: string, id: string): Promise<OperationView> => tenant.done('DELETE', `/v1/${plural}/${id}`);
async function end(plural: string, id: string): Promise<void> {
  await remove(plural, id);
  await act(plural, id, 'expunge');
}
const volume = (more: Record<string, unknown> = {}): Promise<Resource> =>
  make(tenant, 'volumes', { name: 'v', zoneId: cloud.zone.id, volumeTypeId: cloud.volumeTypes[0]?.id, ...more });
const snapshot = (volumeId: unknown): Promise<Resource> => make(tenant, 'snapshots', { name: 's', volumeId });
const fromSnapshot = ({ id }: Resource): Promise<Resource> => volume({ source: { snapshotId: id } });
/** All disks that Ceph holds, in sight and in the trash; copies of images stay. */
const inCeph = async (): Promise<string[]> => {
  const { ceph } = await inventory.read(cloud.storageCluster.id);
  return (JSON.stringify(ceph).match(/"(volume|seed)-[^"]+"/g) ?? []).map((name) => name.slice(1, -1)).sort();
};
const deploy = (name: string, more: Record<string, unknown> = {}): Promise<Resource> =>
  make(tenant, 'instances', instanceBody(cloud, name, more));
const booted = (id: string): Promise<string> => serialUntil(tenant, id, /READY .*(?=\r?\n)/, 180_000);

const numberOf = (hostId: unknown): number => cloud.hosts.findIndex((host) => host.id === hostId) + 1;
/** Where the files of a pool are, as host 1 sees them. */
const directory = { local: '/srv/suite', sharedMount: `${sharedDirectory}/suite`, nfs: `${sharedDirectory}/export` };

storageSuite({
  admin,
  cloud,
  bodies: {
    rbd: { pool: 'suite', replicas: 1, failureDomain: 'osd', storageClusterId: cloud.storageCluster.id },
    local: { source: { path: directory.local }, hostId: cloud.hosts[0]?.id },
    sharedMount: { source: { path: directory.sharedMount } },
    nfs: { source: { server: 'server.example.net', path: directory.nfs } },
  },
  standsFor: { nfs: 'a bind mount in place of the mount of an export' },
  booted: (id, times) =>
    serialUntil(tenant, id, (text) => text.match(/READY .*(?=\r?\n)/g)?.[times - 1] ?? null, 180_000),
  async inside(id, command) {
    const { hostId } = await admin.call('GET', `/v1/instances/${id}`);
    const { code, output } = await inGuest(lab, numberOf(hostId), id, command);
    if (code !== 0) throw new Error(`${command}: ${output}`);
    return output;
  },
  async left(type) {
    if (type === 'rbd') return Object.keys((await inventory.read()).ceph.pools).filter((name) => name === 'suite');
    const { stdout } = await lab.execHost(1, ['find', directory[type], '-mindepth', '1']);
    return stdout.split('\n').filter((path) => path !== '');
  },
});

test('chains of snapshots and clones can be taken down in any order that is accepted, and leave nothing in Ceph', async () => {
  const before = await inCeph();
  const { id } = await deploy('chain', { startOnCreate: false });
  const { rootVolumeId } = await tenant.call('GET', `/v1/instances/${id}`);
  const first = await snapshot(rootVolumeId);
  const child = await fromSnapshot(first);
  const second = await snapshot(child.id);
  const grandchild = await fromSnapshot(second);
  const lone = await snapshot(grandchild.id);

  // What has a snapshot stays, the instance by its root.
  for (const [plural, one] of [
    ['instances', id],
    ['volumes', child.id],
    ['volumes', grandchild.id],
  ] as const) {
    const refused = await remove(plural, one).catch((error: unknown) => error);
    expect((refused as ApiError).problem?.code).toBe('HAS_DEPENDENTS');
  }
  // From the top down: each goes into the trash under clones that live.
  await remove('snapshots', first.id);
  await end('instances', id);
  await remove('snapshots', second.id);
  await remove('volumes', child.id);
  await act('volumes', child.id, 'recover');
  await end('volumes', child.id);
  expect(await inCeph()).toContain(`volume-${String(rootVolumeId)}`);
  await act('volumes', grandchild.id, 'revert', { snapshotId: lone.id });
  await remove('snapshots', lone.id);
  // The last clone takes all that lay in the trash above it along.
  await end('volumes', grandchild.id);
  expect(await inCeph()).toEqual(before);
});

test('a guest has 26 disks, attached while it runs, and finds each', async () => {
  const { id } = await deploy('disks');
  const { hostId } = await admin.call('GET', `/v1/instances/${id}`);
  await booted(id);
  const disks: Resource[] = [];
  for (let count = 0; count < 25; count++) disks.push(await volume({ sizeGib: 1 }));
  for (const disk of disks) await act('volumes', disk.id, 'attach', { instanceId: id });
  const seen = async (): Promise<string> =>
    (await inGuest(lab, numberOf(hostId), id, 'cat /sys/block/*/serial; true')).output;
  const serials = disks.map((disk) => disk.id.replaceAll('-', '').slice(0, 20));
  const missing = async (): Promise<string[]> => {
    const output = await seen();
    return serials.filter((serial) => !output.includes(serial));
  };
  for (const deadline = Date.now() + 60_000; (await missing()).length > 0 && Date.now() < deadline; )
    await setTimeout(500);
  expect(await missing()).toEqual([]);
  // A cold start brings them all back.
  await act('instances', id, 'stop', { mode: 'force' });
  await act('instances', id, 'start');
  await remove('instances', id);
  await act('instances', id, 'expunge');
  for (const disk of disks) await end('volumes', disk.id);
});

test('a raw image goes into its pool as it comes, and boots', async () => {
  const file = join(home, 'raw-image');
  try {
    execFileSync('qemu-img', ['convert', '-O', 'raw', lab.guestImage, file]);
    const image = await tenant.call('POST', '/v1/images', { name: 'raw', zoneId: cloud.zone.id });
    const sent = await tenant.raw('PUT', `/v1/images/${image.id}/content`, readFileSync(file), {
      'content-type': 'application/octet-stream',
    });
    await tenant.settled(((await sent.json()) as OperationView).id);
    const { id } = await deploy('raw', { source: { imageId: image.id } });
    expect(await booted(id)).toContain('READY');
    await end('instances', id);
    await remove('images', image.id);
  } finally {
    rmSync(file, { force: true });
  }
});
