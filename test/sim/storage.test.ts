/** Every type of pool passes the suite; and what is asked of pools themselves. */
import { expect, inject, test } from 'vitest';
import type { ApiError } from '../../lab/api.ts';
import { instanceBody, make } from '../../lab/provision.ts';
import type { PoolType } from '../../model/storage/poolTypes.ts';
import { joinCloud } from '../support/cloud.ts';
import { storageSuite } from '../support/storage.ts';

const { admin, cloud, deploy, removeInstance, wrong } = joinCloud(inject('cloud'));

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
  const refusal = (work: Promise<unknown>): Promise<string> =>
    work.then(
      () => 'accepted',
      (error: ApiError) => error.problem.code,
    );
  const rootVolume = { volumeTypeId: own.id };
  const body = instanceBody(cloud, 'bound', { rootVolume, projectId: cloud.project.id });
  expect(await refusal(admin.call('POST', '/v1/instances', { ...body, requestedHostId: there?.id }))).toBe(
    'NO_CAPACITY',
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
  expect(await refusal(attach())).toBe('INVALID_STATE');
  await tenant.done('POST', `/v1/instances/${id}/actions/stop`, {});
  expect(await refusal(attach())).toBe('INVALID_STATE');
  expect(await refusal(admin.call('DELETE', `/v1/hosts/${there?.id}`))).toBe('HAS_DEPENDENTS');
  await removeInstance(id);
  await tenant.done('DELETE', `/v1/volumes/${data.id}`);
  await tenant.done('POST', `/v1/volumes/${data.id}/actions/expunge`, {});
  for (const pool of pools) await admin.done('DELETE', `/v1/storage-pools/${pool.id}`);
});
