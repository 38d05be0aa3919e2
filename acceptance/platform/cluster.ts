import type { Hooks } from '../change.ts';

export const clusterHooks: Hooks = {
  'cluster.create': {
    accept({ row, references }) {
      row.zoneId = references.get(`pod/${String(row.podId)}`)?.zoneId;
    },
  },
};
