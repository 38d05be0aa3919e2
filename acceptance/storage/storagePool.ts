import { run } from '../../database/database.ts';
import { Problem } from '../../runtime/problem.ts';
import type { Hooks } from '../change.ts';
import { invalid } from '../violation.ts';

export const storagePoolHooks: Hooks = {
  'storagePool.create': {
    async accept({ tx, row, input, references }) {
      const home = references.get(`storageCluster/${String(input.storageClusterId)}`);
      const clusterIds = input.clusterIds as string[];
      if (clusterIds.length === 0) throw invalid('clusterIds', 'names no cluster');
      for (const id of clusterIds)
        if (references.get(`cluster/${id}`)?.zoneId !== home?.zoneId)
          throw invalid('clusterIds', `cluster ${id} is in another zone than the storage cluster`);
      const taken = await run(
        tx,
        `SELECT 1 FROM "storagePool" WHERE "storageClusterId" = $1 AND pool = $2 AND "deletedAt" IS NULL`,
        [input.storageClusterId, input.pool],
      );
      if (taken.length > 0)
        throw new Problem('NAME_IN_USE', `pool ${String(input.pool)} of this storage cluster is in use already`, {
          violations: [{ field: 'pool', message: 'is in use' }],
        });
      row.zoneId = home?.zoneId;
    },
  },
};
