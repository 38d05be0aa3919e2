import { boolean, choice, instant, integer, kind, ref } from '../kind.ts';

export const snapshot = kind({
  name: 'snapshot',
  plural: 'snapshots',
  area: 'storage',
  scope: 'project',
  summary: 'A volume at one moment',
  livesWith: 'volumeId',
  fields: {
    volumeId: ref('volume', 'create!', { use: 'snapshot', onDelete: 'cascade' }),
    quiesce: boolean('create', {
      default: false,
      description: 'Freeze the file systems while it is taken, where the guest agent answers',
    }),
    frozen: boolean('system', { description: 'The guest agent really froze them' }),
    zoneId: ref('zone', 'system', { onDelete: 'ignore' }),
    poolId: ref('storagePool', 'system'),
    parentId: ref('snapshot', 'system', { onDelete: 'ignore' }),
    sizeGib: integer(1, 65_536, 'system'),
    architecture: choice(['x86_64', 'aarch64'], 'system', {
      description: 'Of the image that its volume was made from, if any',
    }),
    scheduleId: ref('schedule', 'system', { onDelete: 'ignore', description: 'The schedule that has made it' }),
    expiresAt: instant('patch', { future: true, description: 'When it is deleted by itself; null: never' }),
  },
  states: ['creating', 'ready', 'deleting', 'failed'],
  orderable: ['sizeGib'],
  actions: {
    create: {
      summary: 'Take a snapshot, also of a volume in use',
      mode: 'operation',
      via: 'creating',
      to: 'ready',
      cancellable: true,
      steps: ['snapshots.locate', 'snapshots.take', 'snapshots.describe'],
    },
    update: { summary: 'Change a snapshot', mode: 'sync' },
    delete: {
      summary: 'Remove a snapshot; its data stays while volumes made from it live',
      mode: 'operation',
      lock: 'D',
      from: ['ready'],
      via: 'deleting',
      to: 'deleted',
      pointOfNoReturn: 'snapshots.remove',
      steps: ['snapshots.locate', 'snapshots.remove', 'snapshots.rejoin'],
    },
  },
});
