import { Type } from 'typebox';
import { boolean, choice, field, integer, json, kind, object, ref } from '../kind.ts';
import { hypervisors } from './hypervisors.ts';

export const cluster = kind({
  name: 'cluster',
  plural: 'clusters',
  area: 'platform',
  scope: 'platform',
  summary: 'Hosts of one hypervisor and architecture that reach the same pools',
  fields: {
    podId: ref('pod', 'create!', { onDelete: 'cascade' }),
    zoneId: ref('zone', 'system', { onDelete: 'ignore' }),
    hypervisor: choice(hypervisors, 'create', { default: 'kvm' }),
    architecture: choice(['x86_64', 'aarch64'], 'create', { default: 'x86_64' }),
    vcpuOvercommit: field(Type.Number({ minimum: 1, maximum: 64 }), 'patch', { default: 1 }),
    memoryOvercommit: field(Type.Number({ minimum: 1, maximum: 4 }), 'patch', { default: 1 }),
    reservedHostCapacity: json(
      object({ vcpus: Type.Integer({ minimum: 0 }), memoryMib: Type.Integer({ minimum: 0 }) }),
      'patch',
      { default: { vcpus: 0, memoryMib: 512 } },
    ),
    migration: json(
      object({
        bandwidthBytesPerSec: Type.Union([Type.Integer({ minimum: 1_048_576 }), Type.Null()]),
        autoConverge: Type.Boolean(),
      }),
      'patch',
      { default: { bandwidthBytesPerSec: null, autoConverge: true } },
    ),
    ha: json(
      object({
        enabled: Type.Boolean({ description: 'Instances of a host that has failed are started elsewhere' }),
        requireFence: Type.Boolean({
          description:
            'false: also those whose disks lie where no host can be shut out; were it still running, two guests would write to one disk',
        }),
        suspectSeconds: Type.Integer({
          minimum: 3,
          maximum: 3600,
          description: 'After so long a silence of a host other hosts and the storage are asked about it',
        }),
      }),
      'patch',
      { default: { enabled: true, requireFence: true, suspectSeconds: 4 } },
    ),
    failoverReservePercent: integer(0, 90, 'patch', {
      default: 0,
      description: 'So much of each host is kept free for instances of hosts that fail',
    }),
    enabled: boolean('patch', { default: true, description: 'false: nothing new is placed on its hosts' }),
  },
  actions: {
    create: { summary: 'Make a cluster', mode: 'sync', operatorOnly: true },
    update: { summary: 'Change a cluster', mode: 'sync', operatorOnly: true },
    delete: { summary: 'Remove an empty cluster', mode: 'sync', operatorOnly: true },
  },
});
