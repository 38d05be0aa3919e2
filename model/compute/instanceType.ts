import { boolean, choice, integer, kind, ref } from '../kind.ts';

export const instanceType = kind({
  name: 'instanceType',
  plural: 'instance-types',
  area: 'compute',
  scope: 'platform',
  summary: 'The shape of an instance: CPU and memory',
  catalogue: true,
  fields: {
    vcpus: integer(1, 512, 'create!'),
    memoryMib: integer(64, 16_777_216, 'create!'),
    rootVolumeTypeId: ref('volumeType', 'patch'),
    rootSizeGib: integer(1, 65_536, 'patch'),
    visibility: choice(['public', 'private'], 'patch', { default: 'public' }),
    enabled: boolean('patch', { default: true }),
  },
  orderable: ['vcpus', 'memoryMib'],
  actions: {
    create: { summary: 'Make an instance type', mode: 'sync', operatorOnly: true },
    update: { summary: 'Change an instance type', mode: 'sync', operatorOnly: true },
    delete: { summary: 'Remove an instance type that no instance has', mode: 'sync', operatorOnly: true },
  },
});
