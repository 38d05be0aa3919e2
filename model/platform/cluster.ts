import { Type } from 'typebox';
import {
  boolean,
  choice,
  field,
  Instant,
  integer,
  json,
  kind,
  object,
  oneOf,
  ref,
  Uuid,
  withDefault,
} from '../kind.ts';
import { maintaining } from './host.ts';
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
      { default: { enabled: true, requireFence: true, suspectSeconds: 3 } },
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
    rebalance: {
      summary: 'Move running instances so that its hosts are used alike',
      happened: 'rebalanced',
      permitsChildren: true,
      mode: 'operation',
      operatorOnly: true,
      holdsTarget: false,
      cancellable: true,
      input: object({
        metric: withDefault(
          { ...oneOf('memory', 'vcpus'), description: 'Of what each host has promised a like share afterwards' },
          'memory',
        ),
        spreadPercent: withDefault(
          Type.Integer({
            minimum: 1,
            maximum: 100,
            description: 'Hosts are used alike when their shares differ by no more',
          }),
          10,
        ),
        maxMoves: withDefault(Type.Integer({ minimum: 1, maximum: 100 }), 10),
        maxParallel: withDefault(Type.Integer({ minimum: 1, maximum: 20 }), 2),
      }),
      steps: [
        'clusters.planRebalance',
        {
          name: 'move',
          system: 'operation',
          undo: 'cancel it while it runs',
          when: 'once for each instance that moves',
        },
      ],
    },
    rollingMaintenance: {
      summary: 'Empty its hosts, work on them, and use them again, some at a time',
      happened: 'maintained',
      permitsChildren: true,
      mode: 'operation',
      operatorOnly: true,
      // For hours: meanwhile it changes, and hosts come and go.
      holdsTarget: false,
      cancellable: true,
      input: object({
        order: Type.Optional(
          Type.Array(Uuid, {
            minItems: 1,
            maxItems: 1_000,
            uniqueItems: true,
            description: 'Its hosts that it is about, the first one first; all of them, by name, when it is not given',
          }),
        ),
        batchSize: withDefault(
          Type.Integer({ minimum: 1, maximum: 20, description: 'So many hosts are out of use at a time' }),
          1,
        ),
        stopOnFailure: withDefault(
          Type.Boolean({ description: 'Begin no further host once one has failed; those that are done stay done' }),
          true,
        ),
        ...maintaining,
        notAfter: Type.Optional({
          ...Instant,
          description: 'No host is begun that would not be done by then; the others are told as left',
        }),
        secondsPerHost: withDefault(
          Type.Integer({
            minimum: 1,
            maximum: 86_400,
            description: 'So long a host is taken to need; as long as the slowest has taken, where that was longer',
          }),
          600,
        ),
        goesOn: Type.Optional(
          Type.Boolean({ description: 'Only those that the last one has left, if it has left any' }),
        ),
      }),
      steps: [
        'clusters.planMaintenance',
        { name: 'maintain', system: 'operation', undo: 'cancel it while it runs', when: 'once for each host' },
      ],
    },
  },
});
