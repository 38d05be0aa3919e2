import { Type } from 'typebox';
import { pattern } from '../forms.ts';
import { boolean, choice, field, integer, json, kind, object, ref, refs, Uuid, withDefault } from '../kind.ts';
import { poolTypeNames } from './poolTypes.ts';

const className = pattern(
  '^[a-z][a-z0-9-]{0,31}$',
  'must have 1 to 32 lowercase letters, digits or hyphens, and begin with a letter',
);

export const storagePool = kind({
  name: 'storagePool',
  plural: 'storage-pools',
  area: 'storage',
  scope: 'platform',
  summary: 'Where volumes, snapshots and cached images live',
  fields: {
    type: choice(poolTypeNames, 'create', { default: 'rbd' }),
    storageClusterId: ref('storageCluster', 'create', { description: 'Of a pool of type rbd, where it is needed' }),
    zoneId: ref('zone', 'system', { onDelete: 'ignore' }),
    clusterIds: refs('cluster', 'create!'),
    hostId: ref('host', 'create', {
      description: 'Of a pool of type local, where it is needed: what lies in it is of use on this host alone',
    }),
    pool: field(
      Type.String({
        pattern: pattern(
          '^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$',
          'must have 1 to 63 letters, digits, underscores, dots or hyphens, and begin with a letter or digit',
        ),
      }),
      'create',
      {
        description: 'Name of the pool in Ceph; of a pool of type rbd, where it is needed',
      },
    ),
    source: json(
      object({
        server: Type.Optional(
          Type.String({
            pattern: pattern(
              '^[A-Za-z0-9]([A-Za-z0-9-]{0,62}[A-Za-z0-9])?(\\.[A-Za-z0-9-]{1,63})*$',
              'must be a host name or an IPv4 address',
            ),
            maxLength: 253,
            description: 'Of type nfs: who exports the directory',
          }),
        ),
        path: Type.String({
          pattern: pattern(
            '^(/[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})+$',
            'must be an absolute path of letters, digits, underscores, dots and hyphens, in which no name begins with a dot',
          ),
          maxLength: 1024,
          description: 'The directory: on the host, on every host, or as the server exports it',
        }),
      }),
      'create',
      { description: 'Where the files of a pool of type local, sharedMount or nfs are' },
    ),
    storageClass: field(Type.String({ pattern: className }), 'create!', {
      description: 'fast, flow, bulk, or your own',
    }),
    deviceClass: field(Type.String({ pattern: className }), 'create', {
      description: 'CRUSH device class; null: any',
    }),
    replicas: integer(1, 6, 'create', { default: 3 }),
    failureDomain: choice(['osd', 'host'], 'create', { default: 'host' }),
    overprovision: field(Type.Number({ minimum: 0.1, maximum: 100 }), 'patch', { default: 1 }),
    madeByPlatform: boolean('system', { default: false }),
    capacity: json(Type.Unknown(), 'system'),
    totalGib: integer(0, 2_000_000_000, 'system', { default: 0 }),
    enabled: boolean('patch', { default: true, description: 'false: it promises no more room; what lies in it stays' }),
  },
  states: ['creating', 'ready', 'deleting', 'failed'],
  unique: [{ fields: ['storageClusterId', 'pool'], code: 'NAME_IN_USE' }],
  actions: {
    create: {
      summary: 'Make or adopt a pool and give hosts access to it',
      mode: 'operation',
      operatorOnly: true,
      via: 'creating',
      to: 'ready',
      cancellable: true,
      steps: [
        'storagePools.locate',
        'storagePools.make',
        { name: 'storagePools.connectHost', when: 'once per connected host' },
      ],
    },
    update: { summary: 'Change a pool', mode: 'sync', operatorOnly: true },
    cleanCache: {
      summary: 'Remove the copies of images in it that nothing lives on',
      happened: 'cacheCleaned',
      mode: 'operation',
      operatorOnly: true,
      from: ['ready'],
      input: object({
        unusedForSeconds: withDefault(
          Type.Integer({
            minimum: 0,
            maximum: 315_360_000,
            description: 'Those alone that have been of no use for so long; of a pool that is overfull, any',
          }),
          86_400,
        ),
      }),
      pointOfNoReturn: 'storagePools.cleanCache',
      steps: ['storagePools.locate', 'storagePools.cleanCache'],
    },
    trashStray: {
      summary: 'Put the disk of a volume that is not there into the trash of the pool',
      happened: 'strayTrashed',
      mode: 'operation',
      operatorOnly: true,
      from: ['ready'],
      cancellable: true,
      input: object({ volumeId: { ...Uuid, description: 'What was the volume' } }),
      steps: ['storagePools.findStray', 'storagePools.trashStray'],
    },
    delete: {
      summary: 'Remove an empty pool; one the platform did not make is only forgotten',
      mode: 'operation',
      operatorOnly: true,
      lock: 'D',
      from: ['ready'],
      via: 'deleting',
      to: 'deleted',
      pointOfNoReturn: 'storagePools.remove',
      steps: [
        'storagePools.locate',
        'storagePools.remove',
        { name: 'storagePools.disconnectHost', when: 'once per connected host' },
      ],
    },
  },
});
