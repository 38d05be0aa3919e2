import type { PoolType } from '../../model/storage/poolTypes.ts';
import type { Accepting, Hooks, Row } from '../change.ts';
import { invalid } from '../violation.ts';

/** The zone that a pool is in, which what it is made of decides. */
const zoneOf: Record<PoolType, (accepting: Accepting, clusters: Row[]) => unknown> = {
  rbd(accepting) {
    const { input, references } = accepting;
    ofNoHost(accepting);
    if (input.source) throw invalid('source', 'is for pools of files');
    for (const field of ['storageClusterId', 'pool'])
      if (!input[field]) throw invalid(field, 'is needed for a pool of type rbd');
    const home = references.get(`storageCluster/${String(input.storageClusterId)}`);
    if (home?.enabled === false) throw invalid('storageClusterId', 'is closed to new pools');
    return home?.zoneId;
  },
  local(accepting, clusters) {
    const { input, references } = accepting;
    if (filesOf(accepting).server) throw invalid('source.server', 'is for pools of type nfs');
    const host = references.get(`host/${String(input.hostId)}`);
    if (!host) throw invalid('hostId', 'is needed for a pool of type local');
    const [cluster, another] = clusters;
    if (cluster?.id !== host.clusterId || another)
      throw invalid('clusterIds', `must be the cluster of host ${host.id} alone: ${String(host.clusterId)}`);
    return cluster?.zoneId;
  },
  sharedMount(accepting, clusters) {
    ofNoHost(accepting);
    if (filesOf(accepting).server) throw invalid('source.server', 'is for pools of type nfs');
    return clusters[0]?.zoneId;
  },
  nfs(accepting, clusters) {
    ofNoHost(accepting);
    if (!filesOf(accepting).server) throw invalid('source.server', 'is needed for a pool of type nfs');
    return clusters[0]?.zoneId;
  },
};

function ofNoHost({ input }: Accepting): void {
  if (input.hostId) throw invalid('hostId', 'is for pools of type local');
}

function filesOf({ input }: Accepting): { server?: string; path: string } {
  for (const field of ['storageClusterId', 'pool', 'deviceClass'])
    if (input[field]) throw invalid(field, 'is for pools of type rbd');
  if (!input.source) throw invalid('source', 'is needed for a pool of files');
  return input.source as { server?: string; path: string };
}

export const storagePoolHooks: Hooks = {
  'storagePool.create': {
    accept(accepting) {
      const { row, input, references } = accepting;
      const clusterIds = input.clusterIds as string[];
      if (clusterIds.length === 0) throw invalid('clusterIds', 'names no cluster');
      const clusters = clusterIds.flatMap((id) => references.get(`cluster/${id}`) ?? []);
      const type = (input.type ?? 'rbd') as PoolType;
      const zoneId = zoneOf[type](accepting, clusters);
      for (const cluster of clusters)
        if (cluster.zoneId !== zoneId)
          throw invalid(
            'clusterIds',
            `cluster ${cluster.id} is in another zone than the ${type === 'rbd' ? 'storage' : 'first'} cluster`,
          );
      row.zoneId = zoneId;
    },
  },
};
