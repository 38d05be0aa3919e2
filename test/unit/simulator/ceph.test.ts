import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Simulator } from '../../../lab/simulated/simulator.ts';
import { ask, cloud, image, pool, storageClusterId, tags } from './cloud.ts';

let simulator: Simulator;
beforeEach(async () => {
  simulator = await cloud({ hosts: 1 });
});
afterEach(() => simulator.stop());

const host = 'host-0';
const clone = (name: string, sizeGib: number) =>
  ask(simulator, host, 'rbd.ensureClone', {
    ...image(name),
    from: { pool, image: 'parent', snapshot: 's' },
    sizeGib,
    tags: tags(name),
  });

async function makeParent(): Promise<void> {
  await ask(simulator, host, 'rbd.ensureImage', { ...image('parent'), sizeGib: 2, tags: tags('parent') });
  simulator.writeToImage(pool, 'parent', 'first');
  await ask(simulator, host, 'rbd.ensureSnapshot', { ...image('parent'), snapshot: 's', tags: tags('s') });
}

const record = () => simulator.inventory().ceph.pools[pool];

test('a removed snapshot with a clone goes out of sight and vanishes with the last clone', async () => {
  await makeParent();
  await clone('child', 4);
  await ask(simulator, host, 'rbd.ensureSnapshotAbsent', { ...image('parent'), snapshot: 's' });
  expect(record()?.images.parent).toMatchObject({ snapshots: {}, hiddenSnapshots: ['s'] });
  await ask(simulator, host, 'rbd.ensureImageAbsent', image('child'));
  expect(record()?.images.parent?.hiddenSnapshots).toEqual([]);
});

test('an image with a cloned snapshot stays; once the snapshot is removed it waits in the trash for the last clone', async () => {
  await makeParent();
  await clone('child', 4);
  await expect(ask(simulator, host, 'rbd.ensureImageAbsent', image('parent'))).rejects.toMatchObject({
    code: 'INVALID_STATE',
  });
  await ask(simulator, host, 'rbd.ensureSnapshotAbsent', { ...image('parent'), snapshot: 's' });
  await ask(simulator, host, 'rbd.ensureImageAbsent', image('parent'));
  expect(record()).toMatchObject({ images: { child: {} }, trash: { parent: { hiddenSnapshots: ['s'] } } });
  await ask(simulator, host, 'rbd.ensureImageAbsent', image('child'));
  expect(record()).toMatchObject({ images: {}, trash: {} });
});

test('a clone has the content and at least the size of its snapshot', async () => {
  await makeParent();
  simulator.writeToImage(pool, 'parent', 'second');
  await clone('child', 4);
  expect(record()?.images.child).toMatchObject({ content: 'first', sizeBytes: 4 * 2 ** 30, parent: 'fast/parent@s' });
  await expect(clone('small', 1)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
});

test('rolling back brings content and size of the snapshot back', async () => {
  await makeParent();
  simulator.writeToImage(pool, 'parent', 'second');
  await ask(simulator, host, 'rbd.ensureSize', { ...image('parent'), sizeGib: 3, allowShrink: false });
  await ask(simulator, host, 'rbd.rollBack', { ...image('parent'), snapshot: 's' });
  expect(record()?.images.parent).toMatchObject({ content: 'first', sizeBytes: 2 * 2 ** 30 });
});

test('an image shrinks only when told so', async () => {
  await makeParent();
  const smaller = { ...image('parent'), sizeGib: 1 };
  await expect(ask(simulator, host, 'rbd.ensureSize', { ...smaller, allowShrink: false })).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
  });
  await ask(simulator, host, 'rbd.ensureSize', { ...smaller, allowShrink: true });
  expect(record()?.images.parent?.sizeBytes).toBe(2 ** 30);
});

test('trash and restore are idempotent both ways, and an expunged image is gone for good', async () => {
  await makeParent();
  const before = simulator.inventory();
  for (let time = 0; time < 2; time += 1) await ask(simulator, host, 'rbd.ensureTrashed', image('parent'));
  expect(record()).toMatchObject({ images: {}, trash: { parent: {} } });
  for (let time = 0; time < 2; time += 1) await ask(simulator, host, 'rbd.ensureRestored', image('parent'));
  expect(simulator.inventory()).toEqual(before);
  await ask(simulator, host, 'rbd.ensureTrashed', image('parent'));
  for (let time = 0; time < 2; time += 1) await ask(simulator, host, 'rbd.ensureExpunged', image('parent'));
  expect(record()).toMatchObject({ images: {}, trash: {} });
  await expect(ask(simulator, host, 'rbd.ensureRestored', image('parent'))).rejects.toMatchObject({
    code: 'NOT_FOUND',
  });
});

test('a user keeps its key, reaches its pools only, and reaches nothing once it is gone', async () => {
  const { monitors, fsid, adminUser, adminKey } = simulator.ceph;
  const access = { storageClusterId, monitors, fsid, user: adminUser, key: adminKey };
  const { key } = await ask(simulator, host, 'ceph.ensureUser', { access, user: 'belay', pools: [] });
  expect(await ask(simulator, host, 'ceph.ensureUser', { access, user: 'belay', pools: [] })).toEqual({ key });
  await ask(simulator, host, 'storage.ensureConnected', { ...access, user: 'belay', key });
  const list = () => ask(simulator, host, 'rbd.inventory', { storageClusterId, pool });
  await expect(list()).rejects.toMatchObject({ code: 'PRECONDITION_FAILED' });
  await ask(simulator, host, 'ceph.ensureUser', { access, user: 'belay', pools: [pool] });
  expect(await list()).toEqual({ images: [], trash: [] });
  await ask(simulator, host, 'ceph.ensureUserAbsent', { access, user: 'belay' });
  await expect(list()).rejects.toMatchObject({ code: 'PRECONDITION_FAILED' });
});

test('a pool goes only for its owner and only when it is empty', async () => {
  const { monitors, fsid, adminUser, adminKey } = simulator.ceph;
  const access = { storageClusterId, monitors, fsid, user: adminUser, key: adminKey };
  const remove = (id: string) => ask(simulator, host, 'ceph.ensurePoolAbsent', { access, pool, tags: tags(id) });
  await makeParent();
  await remove('somebody');
  await expect(remove('pool-1')).rejects.toMatchObject({ code: 'INVALID_STATE' });
  await ask(simulator, host, 'rbd.ensureImageAbsent', image('parent'));
  await remove('pool-1');
  await remove('pool-1');
  expect(simulator.inventory().ceph.pools).toEqual({});
});
