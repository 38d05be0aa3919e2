/** Every type of pool passes the suite; and what is asked of pools themselves. */
import { expect, inject, test } from 'vitest';
import type { ApiError, OperationView } from '../../lab/api.ts';
import { instanceBody, make } from '../../lab/provision.ts';
import type { PoolType } from '../../model/storage/poolTypes.ts';
import { joinCloud } from '../support/cloud.ts';
import { hold } from '../support/hold.ts';
import { follower, inStep, refusal, untilSeen } from '../support/operations.ts';
import { storageSuite } from '../support/storage.ts';

const address = inject('cloud');
const { admin, cloud, deploy, removeInstance, wrong } = joinCloud(address);

/** How a pool of each type is asked for. */
const bodies: Record<PoolType, Record<string, unknown>> = {
  rbd: { pool: 'suite', replicas: 1, failureDomain: 'osd', storageClusterId: cloud.storageCluster.id },
  local: { source: { path: '/srv/suite' }, hostId: cloud.hosts[0]?.id },
  sharedMount: { source: { path: '/srv/suite' } },
  nfs: { source: { server: '10.0.0.9', path: '/exports/suite' } },
};

storageSuite({ admin, cloud, bodies, left: wrong });

test('what a pool needs is said by its type, and what belongs to another type is refused', async () => {
  const refused = async (type: PoolType, more: Record<string, unknown>): Promise<unknown> => {
    const body = { name: 'wrong', type, storageClass: 'wrong', clusterIds: [cloud.cluster.id], ...more };
    return admin.call('POST', '/v1/storage-pools', body).then(
      () => 'accepted',
      (error: ApiError) => error.problem.violations?.[0]?.field ?? error.message,
    );
  };
  const { podId } = cloud.cluster;
  const other = await admin.call('POST', '/v1/clusters', { name: 'other', podId });
  expect(await refused('rbd', { ...bodies.rbd, storageClusterId: undefined })).toBe('storageClusterId');
  expect(await refused('rbd', { ...bodies.rbd, pool: undefined })).toBe('pool');
  expect(await refused('rbd', { ...bodies.rbd, ...bodies.sharedMount })).toBe('source');
  expect(await refused('rbd', { ...bodies.rbd, hostId: cloud.hosts[0]?.id })).toBe('hostId');
  expect(await refused('local', bodies.sharedMount)).toBe('hostId');
  expect(await refused('local', { ...bodies.local, clusterIds: [cloud.cluster.id, other.id] })).toBe('clusterIds');
  expect(await refused('sharedMount', bodies.local)).toBe('hostId');
  expect(await refused('sharedMount', {})).toBe('source');
  expect(await refused('sharedMount', bodies.nfs)).toBe('source.server');
  expect(await refused('nfs', bodies.sharedMount)).toBe('source.server');
  expect(await refused('nfs', { ...bodies.nfs, pool: 'suite' })).toBe('pool');
  expect(await refused('nfs', { source: { server: '10.0.0.9', path: '/exports/../etc' } })).toMatch(/path/);
  await admin.call('DELETE', `/v1/clusters/${other.id}`);
});

test('what is on the disks of one host is of use there alone', async () => {
  const { tenant } = cloud;
  const [here, there] = cloud.hosts;
  const pools = [];
  for (const host of [here, there])
    pools.push(
      await make(admin, 'storage-pools', {
        name: `of ${host?.name}`,
        type: 'local',
        storageClass: `of-${host?.name}`,
        clusterIds: [cloud.cluster.id],
        hostId: host?.id,
        source: { path: '/srv/own' },
      }),
    );
  const typeOf = (index: number) =>
    admin.call('POST', '/v1/volume-types', {
      name: `of ${index}`,
      storageClass: `of-${cloud.hosts[index]?.name}`,
      visibility: 'public',
    });
  const [own, foreign] = [await typeOf(0), await typeOf(1)];
  const rootVolume = { volumeTypeId: own.id };
  const body = instanceBody(cloud, 'bound', { rootVolume, projectId: cloud.project.id });
  expect(await refusal(admin.call('POST', '/v1/instances', { ...body, requestedHostId: there?.id }))).toBe(
    '409 NO_CAPACITY',
  );
  const { id } = await deploy('bound', { rootVolume });
  expect((await admin.call('GET', `/v1/instances/${id}`)).hostId).toBe(here?.id);
  const data = await make(tenant, 'volumes', {
    name: 'x',
    zoneId: cloud.zone.id,
    volumeTypeId: foreign.id,
    sizeGib: 1,
  });
  const attach = () => tenant.call('POST', `/v1/volumes/${data.id}/actions/attach`, { instanceId: id });
  expect(await refusal(attach())).toBe('409 INVALID_STATE');
  await tenant.done('POST', `/v1/instances/${id}/actions/stop`, {});
  expect(await refusal(attach())).toBe('409 INVALID_STATE');
  expect(await refusal(admin.call('DELETE', `/v1/hosts/${there?.id}`))).toBe('409 HAS_DEPENDENTS');
  await removeInstance(id);
  await tenant.done('DELETE', `/v1/volumes/${data.id}`);
  await tenant.done('POST', `/v1/volumes/${data.id}/actions/expunge`, {});
  for (const pool of pools) await admin.done('DELETE', `/v1/storage-pools/${pool.id}`);
});

/** A pool that is the only one of its class, and the type of volumes that lie there. */
async function poolWithType(storageClass: string, body: Record<string, unknown>) {
  const named = { name: storageClass, storageClass };
  const pool = await make(admin, 'storage-pools', { ...named, clusterIds: [cloud.cluster.id], ...body });
  const type = await admin.call('POST', '/v1/volume-types', { ...named, visibility: 'public' });
  return { pool, type };
}

test('what was on the disks of a dead host can be let go of, and is of no use otherwise', async () => {
  const { tenant } = cloud;
  const host = await make(admin, 'hosts', {
    name: 'host-197',
    clusterId: cloud.cluster.id,
    address: `sim://${new URL(address.simulatorUrl).host}/host-197`,
  });
  const { pool, type } = await poolWithType('of-host-197', {
    type: 'local',
    hostId: host.id,
    source: { path: '/srv/own' },
  });
  const rootVolume = { volumeTypeId: type.id };
  const { id: instanceId } = await deploy('lost', { rootVolume });
  expect((await admin.call('GET', `/v1/instances/${instanceId}`)).hostId).toBe(host.id);
  const volumeBody = { name: 'lost', zoneId: cloud.zone.id, volumeTypeId: type.id, sizeGib: 1 };
  const volume = await make(tenant, 'volumes', volumeBody);
  const snapshot = await make(tenant, 'snapshots', { name: 'lost', volumeId: volume.id });
  await fetch(`${address.simulatorUrl}/_sim/hosts/host-197/scrap`, { method: 'POST' });
  await untilSeen(
    () => admin.call('GET', `/v1/hosts/${host.id}`),
    ({ connection }) => connection === 'disconnected',
  );
  await admin.done('DELETE', `/v1/hosts/${host.id}?force=true&confirmDead=true`);
  expect((await admin.call('GET', `/v1/instances/${instanceId}`)).state).toBe('stopped');
  const start = await tenant.call<OperationView>('POST', `/v1/instances/${instanceId}/actions/start`, {});
  expect((await tenant.settled(start.id)).error?.code).toBe('NO_CAPACITY');
  await tenant.done('DELETE', `/v1/snapshots/${snapshot.id}`);
  await tenant.done('DELETE', `/v1/volumes/${volume.id}`);
  await tenant.done('POST', `/v1/volumes/${volume.id}/actions/expunge`, {});
  await removeInstance(instanceId);
  await admin.done('DELETE', `/v1/storage-pools/${pool.id}`);
  expect(await wrong()).toEqual([]);
});

test('a snapshot on files is deleted while nobody starts a guest on it', async () => {
  const { tenant } = cloud;
  const { pool, type } = await poolWithType('layers', { type: 'sharedMount', source: { path: '/srv/layers' } });
  const { id } = await deploy('layered', { rootVolume: { volumeTypeId: type.id } });
  await tenant.done('POST', `/v1/instances/${id}/actions/stop`, { mode: 'force' });
  const { rootVolumeId } = await tenant.call('GET', `/v1/instances/${id}`);
  const snapshot = await make(tenant, 'snapshots', { name: 'layer', volumeId: rootVolumeId });
  const letGo = await hold(address.simulatorUrl, 'files.ensureSnapshotAbsent');
  try {
    const removal = await tenant.call<OperationView>('DELETE', `/v1/snapshots/${snapshot.id}`);
    await follower(admin)(removal.id, inStep('snapshots.remove'));
    const start = await tenant.call<OperationView>('POST', `/v1/instances/${id}/actions/start`, {});
    expect(start.state).toBe('queued');
    await letGo();
    expect([(await tenant.settled(removal.id)).state, (await tenant.settled(start.id)).state]).toEqual([
      'succeeded',
      'succeeded',
    ]);
  } finally {
    await letGo();
  }
  await removeInstance(id);
  await admin.done('DELETE', `/v1/storage-pools/${pool.id}`);
});
