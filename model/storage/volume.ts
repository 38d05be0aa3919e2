import { Type } from 'typebox';
import { boolean, choice, field, integer, json, kind, object, ref, Uuid } from '../kind.ts';

const locate = { name: 'volumeRecords.locate', system: 'record', undo: null } as const;

/** Disks that an instance can have, its root among them. */
export const diskSlots = 64;

export const volume = kind({
  name: 'volume',
  plural: 'volumes',
  area: 'storage',
  scope: 'project',
  summary: 'A virtual disk',
  fields: {
    zoneId: ref('zone', 'create!'),
    volumeTypeId: ref('volumeType', 'create!'),
    sizeGib: integer(1, 65_536, 'create', { description: 'Needed unless the source says it' }),
    source: json(object({ imageId: Type.Optional(Uuid), snapshotId: Type.Optional(Uuid) }), 'create', {
      description: 'At most one; none makes an empty volume',
    }),
    poolId: ref('storagePool', 'system'),
    role: choice(['root', 'data'], 'system', { default: 'data' }),
    instanceId: ref('instance', 'system', {
      onDelete: 'detach',
      ownWhen: { field: 'role', value: 'root', unless: 'keepRootVolume' },
      description: 'The instance it is attached to',
    }),
    deviceIndex: integer(0, diskSlots - 1, 'system', {
      description: 'Its place among the disks of its instance; 0 is the root',
    }),
    architecture: choice(['x86_64', 'aarch64'], 'system', {
      description: 'Of the image that it was made from, if any',
    }),
    deleteProtection: boolean('patch', { default: false }),
    destroyedAt: field(Type.String({ format: 'date-time' }), 'system'),
  },
  states: [
    'creating',
    'ready',
    'attaching',
    'detaching',
    'resizing',
    'reverting',
    'destroying',
    'destroyed',
    'recovering',
    'expunging',
    'expunged',
    'failed',
  ],
  orderable: ['sizeGib', 'state'],
  unique: [
    { fields: ['instanceId', 'deviceIndex'], code: 'ALREADY_ATTACHED', blame: 'instanceId' },
    { fields: ['instanceId'], among: { role: 'root' }, code: 'ALREADY_ATTACHED' },
  ],
  actions: {
    create: {
      summary: 'Make a volume: blank, from an image, or from a snapshot',
      mode: 'operation',
      via: 'creating',
      to: 'ready',
      cancellable: true,
      steps: [
        { name: 'placement.reserveSpace', system: 'placement', undo: 'drop claim' },
        { ...locate, when: 'made from an image that the pool has no copy of' },
        {
          name: 'images.cache',
          system: 'rbd',
          undo: 'remove part',
          when: 'made from an image that the pool has no copy of',
        },
        { name: 'volumes.make', system: 'rbd', undo: 'remove image' },
      ],
    },
    update: { summary: 'Change a volume', mode: 'sync' },
    attach: {
      summary: 'Attach to an instance, live when it runs',
      mode: 'operation',
      from: ['ready'],
      via: 'attaching',
      to: 'ready',
      cancellable: true,
      input: object({ instanceId: Uuid }),
      steps: [
        { name: 'volumeRecords.reserveSlot', system: 'record', undo: 'free slot' },
        { name: 'volumes.plug', system: 'libvirt', undo: 'unplug', when: 'the instance runs' },
      ],
    },
    detach: {
      summary: 'Detach from its instance, live when it runs',
      mode: 'operation',
      from: ['ready'],
      via: 'detaching',
      to: 'ready',
      steps: [
        locate,
        { name: 'volumes.unplug', system: 'libvirt', undo: 'plug in again', when: 'the instance runs' },
        { name: 'volumeRecords.freeSlot', system: 'record', undo: 'reserve again' },
      ],
    },
    resize: {
      summary: 'Grow a volume, live when it is in use',
      mode: 'operation',
      from: ['ready'],
      via: 'resizing',
      to: 'ready',
      input: object({ sizeGib: Type.Integer({ minimum: 1, maximum: 65_536 }) }),
      pointOfNoReturn: 'volumes.grow',
      steps: [
        locate,
        { name: 'volumeRecords.claimGrowth', system: 'record', undo: 'old size' },
        { name: 'volumes.grow', system: 'rbd', undo: 'shrink back; none while the instance runs' },
      ],
    },
    revert: {
      summary: 'Return a volume to one of its snapshots; an instance that has it must be stopped',
      mode: 'operation',
      from: ['ready'],
      via: 'reverting',
      to: 'ready',
      input: object({ snapshotId: Uuid }),
      pointOfNoReturn: 'volumes.dropSafetySnapshot',
      steps: [
        locate,
        { name: 'snapshots.locate', system: 'record', undo: null },
        { name: 'volumes.takeSafetySnapshot', system: 'rbd', undo: 'remove' },
        { name: 'volumes.rollBack', system: 'rbd', undo: 'roll back to safety' },
        { name: 'volumeRecords.recordSize', system: 'record', undo: 'old size' },
        { name: 'volumes.dropSafetySnapshot', system: 'rbd', undo: null },
      ],
    },
    delete: {
      summary: 'Destroy a volume; it can be recovered until the recovery window ends',
      mode: 'operation',
      lock: 'D',
      from: ['ready'],
      via: 'destroying',
      to: 'destroyed',
      steps: [locate, { name: 'volumes.trash', system: 'rbd', undo: 'restore' }],
    },
    recover: {
      summary: 'Bring a destroyed volume back',
      starts: true,
      mode: 'operation',
      from: ['destroyed'],
      via: 'recovering',
      to: 'ready',
      steps: [locate, { name: 'volumes.restore', system: 'rbd', undo: 'trash again' }],
    },
    expunge: {
      summary: 'Free a destroyed volume for good',
      mode: 'operation',
      lock: 'D',
      from: ['destroyed'],
      via: 'expunging',
      to: 'expunged',
      pointOfNoReturn: 'volumes.expunge',
      steps: [locate, { name: 'volumes.expunge', system: 'rbd', undo: null }],
    },
  },
});
