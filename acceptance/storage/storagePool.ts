import type { Hooks } from '../change.ts';
import { invalid } from '../violation.ts';

export const storagePoolHooks: Hooks = {
  'storagePool.create': {
    accept({ row, input, references }) {
      const home = references.get(`storageCluster/${String(input.storageClusterId)}`);
      const clusterIds = input.clusterIds as string[];
      if (home?.enabled === false) throw invalid('storageClusterId', 'is closed to new pools');
      if (clusterIds.length === 0) throw invalid('clusterIds', 'names no cluster');
      for (const id of clusterIds)
        if (references.get(`cluster/${id}`)?.zoneId !== home?.zoneId)
          throw invalid('clusterIds', `cluster ${id} is in another zone than the storage cluster`);
      row.zoneId = home?.zoneId;
    },
  },
};
