import { Type } from 'typebox';
import { boolean, choice, field, json, kind, ref, text } from '../kind.ts';

export const storageCluster = kind({
  name: 'storageCluster',
  plural: 'storage-clusters',
  area: 'storage',
  scope: 'platform',
  summary: 'A Ceph cluster that pools live in',
  fields: {
    zoneId: ref('zone', 'create!'),
    driver: choice(['ceph'], 'create', { default: 'ceph' }),
    monitors: field(Type.Array(Type.String({ maxLength: 253 }), { minItems: 1, maxItems: 16 }), 'create!'),
    adminUser: text(64, 'create', { default: 'admin' }),
    adminKey: text(256, 'input!', { secret: true }),
    fsid: text(64, 'create!'),
    version: text(64, 'system'),
    health: json(Type.Unknown(), 'system'),
    enabled: boolean('patch', {
      default: true,
      description: 'false: no new pools, and no more room in those it has; what lies there stays in use',
    }),
  },
  states: ['creating', 'ready', 'deleting', 'failed'],
  actions: {
    create: {
      summary: 'Register a Ceph cluster',
      mode: 'operation',
      operatorOnly: true,
      via: 'creating',
      to: 'ready',
      cancellable: true,
      steps: ['storageClusters.locate', 'storageClusters.check'],
    },
    update: { summary: 'Change a storage cluster', mode: 'sync', operatorOnly: true },
    delete: {
      summary: 'Forget a cluster without pools',
      mode: 'operation',
      operatorOnly: true,
      lock: 'D',
      from: ['ready'],
      via: 'deleting',
      to: 'deleted',
      pointOfNoReturn: 'storageClusters.leave',
      steps: ['storageClusters.locate', { name: 'storageClusters.leave', when: 'a host of the zone is connected' }],
    },
  },
});
