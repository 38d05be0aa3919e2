/** Every type of pool passes the suite; and what is asked of pools themselves. */
import { expect, inject, test } from 'vitest';
import type { ApiError } from '../../lab/api.ts';
import type { PoolType } from '../../model/storage/poolTypes.ts';
import { joinCloud } from '../support/cloud.ts';
import { storageSuite } from '../support/storage.ts';

const { admin, cloud, wrong } = joinCloud(inject('cloud'));

/** How a pool of each type is asked for. */
const bodies: Record<PoolType, Record<string, unknown>> = {
  rbd: { pool: 'suite', replicas: 1, failureDomain: 'osd', storageClusterId: cloud.storageCluster.id },
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
  expect(await refused('rbd', { ...bodies.rbd, storageClusterId: undefined })).toBe('storageClusterId');
  expect(await refused('rbd', { ...bodies.rbd, pool: undefined })).toBe('pool');
  expect(await refused('rbd', { ...bodies.rbd, ...bodies.sharedMount })).toBe('source');
  expect(await refused('sharedMount', {})).toBe('source');
  expect(await refused('sharedMount', bodies.nfs)).toBe('source.server');
  expect(await refused('nfs', bodies.sharedMount)).toBe('source.server');
  expect(await refused('nfs', { ...bodies.nfs, pool: 'suite' })).toBe('pool');
  expect(await refused('nfs', { source: { server: '10.0.0.9', path: '/exports/../etc' } })).toMatch(/path/);
});
