import type { Hooks } from '../index.ts';

export const clusterHooks: Hooks = {
  'cluster.create': {
    accept({ row, references }) {
      row.zoneId = references.get(`pod/${String(row.podId)}`)?.zoneId;
    },
  },
};
