import { boolean, choice, kind, ref, text } from '../kind.ts';
import { backupStoreTypeNames } from './backupStoreTypes.ts';

export const backupStore = kind({
  name: 'backupStore',
  plural: 'backup-stores',
  area: 'storage',
  scope: 'platform',
  summary: 'Where images and backups are kept',
  fields: {
    zoneId: ref('zone', 'create!'),
    driver: choice(backupStoreTypeNames, 'create', { default: 's3' }),
    endpoint: text(512, 'create!'),
    region: text(64, 'create', { default: 'us-east-1' }),
    bucket: text(63, 'create!'),
    accessKey: text(128, 'create!'),
    secretKey: text(256, 'input!', { secret: true }),
    readOnly: boolean('patch', { default: false, description: 'true: nothing is written to it' }),
    enabled: boolean('patch', { default: true, description: 'false: no new images; what it keeps stays in use' }),
  },
  states: ['creating', 'ready', 'deleting', 'failed'],
  actions: {
    create: {
      summary: 'Register a store after writing, reading and deleting a probe object',
      mode: 'operation',
      operatorOnly: true,
      via: 'creating',
      to: 'ready',
      cancellable: true,
      steps: ['backupStores.reach', 'backupStores.probe'],
    },
    update: { summary: 'Change a store', mode: 'sync', operatorOnly: true },
    delete: {
      summary: 'Forget a store that keeps no image',
      mode: 'operation',
      operatorOnly: true,
      lock: 'D',
      from: ['ready'],
      via: 'deleting',
      to: 'deleted',
      pointOfNoReturn: 'backupStores.forget',
      steps: ['backupStores.forget'],
    },
  },
});
