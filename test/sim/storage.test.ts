/** What storage promises its users, whatever the pool is made of: one suite, run against each type of pool. */
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import type { ApiError } from '../../lab/api.ts';
import { make } from '../../lab/provision.ts';
import { type PoolType, poolTypeNames, poolTypes } from '../../model/storage/poolTypes.ts';
import { joinCloud } from '../support/cloud.ts';

const { admin, cloud, deploy, removeInstance } = joinCloud(inject('cloud'));
const { tenant } = cloud;

interface Volume {
  id: string;
  state: string;
  sizeGib: number;
  poolId: string;
  instanceId: string | null;
}

/** How a pool of each type is asked for. */
const bodies: Record<PoolType, Record<string, unknown>> = {
  rbd: { pool: 'suite', replicas: 1, failureDomain: 'osd', storageClusterId: cloud.storageCluster.id },
  sharedMount: { source: { path: '/srv/suite' } },
  nfs: { source: { server: '10.0.0.9', path: '/exports/suite' } },
};

describe.each(poolTypeNames)('storage in a pool of type %s', (type) => {
  const { can } = poolTypes[type];
  let pool: { id: string; state: string; totalGib: number };
  let volumeType: { id: string };
  // Tenants are not told of pools.
  const volume = (id: string) => admin.call<Volume>('GET', `/v1/volumes/${id}`);
  const act = (id: string, action: string, input: Record<string, unknown> = {}) =>
    tenant.done('POST', `/v1/volumes/${id}/actions/${action}`, input);
  const newVolume = (name: string, more: Record<string, unknown> = {}) =>
    make(tenant, 'volumes', { name, zoneId: cloud.zone.id, volumeTypeId: volumeType.id, ...more });
  async function expunge(id: string): Promise<void> {
    await tenant.done('DELETE', `/v1/volumes/${id}`);
    await act(id, 'expunge');
  }

  beforeAll(async () => {
    const { id } = await make(admin, 'storage-pools', {
      name: `suite ${type}`,
      type,
      storageClass: `suite-${type.toLowerCase()}`,
      clusterIds: [cloud.cluster.id],
      ...bodies[type],
    });
    pool = await admin.call('GET', `/v1/storage-pools/${id}`);
    volumeType = await admin.call('POST', '/v1/volume-types', {
      name: `suite ${type}`,
      storageClass: `suite-${type.toLowerCase()}`,
      visibility: 'public',
    });
  });
  afterAll(async () => {
    await admin.done('DELETE', `/v1/storage-pools/${pool.id}`);
  });

  test('a pool is ready, and knows its room', () => {
    expect(pool.state).toBe('ready');
    expect(pool.totalGib).toBeGreaterThan(0);
  });

  test('a volume is snapped, grown, reverted, cloned, thrown away and brought back', async () => {
    const { id } = await newVolume('kept', { sizeGib: 1 });
    expect(await volume(id)).toMatchObject({ state: 'ready', poolId: pool.id });
    const snapshot = await make(tenant, 'snapshots', { name: 'before', volumeId: id });
    await act(id, 'resize', { sizeGib: 3 });
    await act(id, 'revert', { snapshotId: snapshot.id });
    expect((await volume(id)).sizeGib).toBe(1);
    const clone = await newVolume('clone', { source: { snapshotId: snapshot.id } });
    expect((await volume(clone.id)).poolId).toBe(pool.id);
    await tenant.done('DELETE', `/v1/volumes/${clone.id}`);
    await act(clone.id, 'recover');
    await expunge(clone.id);
    await tenant.done('DELETE', `/v1/snapshots/${snapshot.id}`);
    await expunge(id);
  });

  test('an instance runs on it, takes and gives back a volume, and goes to another host', async () => {
    const { id } = await deploy(`suite-${type}`, { rootVolume: { volumeTypeId: volumeType.id } });
    const instance = await tenant.call<{ rootVolumeId: string; state: string }>('GET', `/v1/instances/${id}`);
    expect(instance.state).toBe('running');
    expect((await volume(instance.rootVolumeId)).poolId).toBe(pool.id);
    const data = await newVolume('data', { sizeGib: 1 });
    await act(data.id, 'attach', { instanceId: id });
    await act(data.id, 'resize', { sizeGib: 2 });
    const snapped = make(tenant, 'snapshots', { name: 'in use', volumeId: data.id });
    if (can.snapshotInUse) await tenant.done('DELETE', `/v1/snapshots/${(await snapped).id}`);
    else await expect(snapped).rejects.toMatchObject({ problem: { code: 'NOT_SUPPORTED' } });
    const moved = tenant.done('POST', `/v1/instances/${id}/actions/migrate`, {});
    if (can.liveMove) await moved;
    else await expect(moved).rejects.toMatchObject({ problem: { code: 'NOT_SUPPORTED' } });
    await tenant.done('POST', `/v1/instances/${id}/actions/stop`, {});
    const snapshot = await make(tenant, 'snapshots', { name: 'off', volumeId: data.id });
    await act(data.id, 'revert', { snapshotId: snapshot.id });
    await tenant.done('POST', `/v1/instances/${id}/actions/start`, {});
    await act(data.id, 'detach');
    await tenant.done('DELETE', `/v1/snapshots/${snapshot.id}`);
    await expunge(data.id);
    await removeInstance(id);
  });
});

test('what a pool needs is said by its type, and what belongs to another type is refused', async () => {
  const refused = async (type: PoolType, more: Record<string, unknown>): Promise<unknown> => {
    const body = { name: 'wrong', type, storageClass: 'wrong', clusterIds: [cloud.cluster.id], ...more };
    return admin.call('POST', '/v1/storage-pools', body).then(
      () => 'accepted',
      (error: ApiError) => error.problem.violations?.[0]?.field ?? error.message,
    );
  };
  expect(await refused('rbd', { ...bodies.rbd, storageClusterId: undefined })).toBe('storageClusterId');
  expect(await refused('rbd', { ...bodies.rbd, pool: undefined })).toBe('pool');
  expect(await refused('rbd', { ...bodies.rbd, ...bodies.sharedMount })).toBe('source');
  expect(await refused('sharedMount', {})).toBe('source');
  expect(await refused('sharedMount', bodies.nfs)).toBe('source.server');
  expect(await refused('nfs', bodies.sharedMount)).toBe('source.server');
  expect(await refused('nfs', { ...bodies.nfs, pool: 'suite' })).toBe('pool');
  expect(await refused('nfs', { source: { server: '10.0.0.9', path: '/exports/../etc' } })).toMatch(/path/);
});
