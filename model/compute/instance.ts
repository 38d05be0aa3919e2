import { Type } from 'typebox';
import { pattern } from '../forms.ts';
import {
  boolean,
  choice,
  field,
  Ip,
  integer,
  json,
  kind,
  object,
  oneOf,
  ref,
  refs,
  text,
  Uuid,
  withDefault,
} from '../kind.ts';
import { instanceMetrics } from '../views.ts';

const place = { name: 'placement.reserve', system: 'placement', undo: 'drop claim' } as const;
const cacheImage = {
  name: 'images.cache',
  system: 'rbd',
  undo: 'remove part',
  when: 'the pool has no copy of the image yet',
} as const;
const plug = { name: 'networkInterfaces.plug', system: 'ovn', undo: 'delete ports' } as const;
const bind = { name: 'networkInterfaces.bind', system: 'ovn', undo: 'unbind' } as const;
const boot = { name: 'hypervisor.boot', system: 'libvirt', undo: 'force off, undefine' } as const;
const awaitPorts = { name: 'networkInterfaces.awaitUp', system: 'ovn', undo: null } as const;
const locate = { name: 'instances.locate', system: 'record', undo: null } as const;
const started = { when: 'startOnCreate is true' } as const;
const ifRunning = { when: 'the instance runs' } as const;

export const instance = kind({
  name: 'instance',
  plural: 'instances',
  area: 'compute',
  scope: 'project',
  summary: 'A virtual machine',
  fields: {
    zoneId: ref('zone', 'create!'),
    hostId: ref('host', 'system', { description: 'Where it runs; null when it does not' }),
    lastHostId: ref('host', 'system', { onDelete: 'ignore' }),
    instanceTypeId: ref('instanceType', 'create!'),
    vcpus: integer(1, 512, 'system'),
    memoryMib: integer(64, 16_777_216, 'system'),
    source: json(
      object({ imageId: Type.Optional(Uuid), volumeId: Type.Optional(Uuid), snapshotId: Type.Optional(Uuid) }),
      'create!',
      {
        description: 'Exactly one: what the root volume is made from',
      },
    ),
    rootVolumeId: ref('volume', 'system', { onDelete: 'ignore' }),
    rootVolume: json(
      object({
        sizeGib: Type.Optional(Type.Integer({ minimum: 1, maximum: 65_536 })),
        volumeTypeId: Type.Optional(Uuid),
        keepOnDelete: Type.Optional(Type.Boolean()),
      }),
      'input',
    ),
    dataVolumes: json(
      Type.Array(
        object({
          name: Type.Optional(Type.String({ minLength: 1, maxLength: 128 })),
          sizeGib: Type.Integer({ minimum: 1, maximum: 65_536 }),
          volumeTypeId: Type.Optional(Uuid),
        }),
        { maxItems: 14 },
      ),
      'input',
    ),
    networkInterfaces: json(
      Type.Array(
        object({
          subnetId: Uuid,
          address: Type.Optional(Ip),
          securityGroupIds: Type.Optional(Type.Array(Uuid, { maxItems: 16, uniqueItems: true })),
        }),
        { maxItems: 8, minItems: 1 },
      ),
      'input!',
    ),
    requestedHostId: ref('host', 'input', { operatorOnly: true, onDelete: 'ignore' }),
    guestHostname: field(
      Type.String({
        pattern: pattern(
          '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$',
          'must have 1 to 63 lowercase letters, digits or hyphens, and neither begin nor end with a hyphen',
        ),
      }),
      'create',
      {
        description: 'Made from the name when not given',
      },
    ),
    keyPairIds: refs('keyPair', 'create', { onDelete: 'ignore' }),
    userData: text(65_536, 'create', { secret: true, description: 'Script or cloud-config for the first boot' }),
    userDataEncoding: choice(['plain', 'base64'], 'create', {
      default: 'plain',
      description: 'base64: the guest is given the bytes that userData stands for, such as those of gzip',
    }),
    firmware: choice(['bios', 'uefi'], 'create', { default: 'bios' }),
    architecture: choice(['x86_64', 'aarch64'], 'system', {
      description: 'Of what it was made from; only hosts of this architecture run it',
    }),
    deleteProtection: boolean('patch', { default: false }),
    keepRootVolume: boolean('system', { default: false }),
    startOnCreate: boolean('create', { default: true }),
    desiredPower: choice(['on', 'off'], 'system', { default: 'on' }),
    stateReason: text(64, 'system'),
    observed: json(Type.Unknown(), 'system'),
    destroyedAt: field(Type.String({ format: 'date-time' }), 'system'),
  },
  states: [
    'creating',
    'running',
    'stopped',
    'starting',
    'stopping',
    'rebooting',
    'migrating',
    'destroying',
    'destroyed',
    'recovering',
    'expunging',
    'expunged',
    'failed',
  ],
  orderable: ['state', 'memoryMib', 'vcpus'],
  views: {
    metrics: instanceMetrics,
    serialLog: {
      summary: 'What the serial console has said and, with follow, goes on to say',
      parameters: { follow: Type.Boolean({ description: 'Stay and stream' }) },
    },
  },
  actions: {
    create: {
      summary: 'Deploy an instance: volumes, ports, placement, first boot',
      mode: 'operation',
      via: 'creating',
      to: 'running',
      cancellable: true,
      tells: object({ requestedHostId: Type.Union([Uuid, Type.Null()]), startOnCreate: Type.Boolean() }),
      steps: [
        place,
        cacheImage,
        { name: 'volumes.make', system: 'rbd', undo: 'remove images and seed' },
        plug,
        { ...boot, ...started },
        { ...awaitPorts, ...started },
        { name: 'placement.vacate', system: 'placement', undo: 'claim again', when: 'startOnCreate is false' },
      ],
    },
    update: { summary: 'Change an instance', mode: 'sync' },
    start: {
      summary: 'Start a stopped instance',
      starts: true,
      mode: 'operation',
      from: ['stopped'],
      via: 'starting',
      to: 'running',
      cancellable: true,
      steps: [place, bind, boot, awaitPorts],
    },
    stop: {
      summary: 'Stop a running instance, softly or by force',
      mode: 'operation',
      from: ['running'],
      via: 'stopping',
      to: 'stopped',
      cancellable: true,
      input: object({
        mode: withDefault(oneOf('soft', 'softThenForce', 'force'), 'softThenForce'),
        timeoutSeconds: withDefault(Type.Integer({ minimum: 1, maximum: 600 }), 60),
      }),
      pointOfNoReturn: 'hypervisor.turnOff',
      steps: [
        locate,
        { name: 'hypervisor.shutDown', system: 'libvirt', undo: 'start again', when: 'mode is not force' },
        { name: 'hypervisor.turnOff', system: 'libvirt', undo: null },
        { name: 'networkInterfaces.unbind', system: 'ovn', undo: null },
        { name: 'placement.release', system: 'placement', undo: null },
      ],
    },
    settle: {
      summary: 'Ask the host what the guest is doing, and let the record follow',
      mode: 'operation',
      operatorOnly: true,
      from: ['running'],
      pointOfNoReturn: 'networkInterfaces.unbind',
      steps: [
        locate,
        { name: 'hypervisor.observe', system: 'libvirt', undo: null },
        { name: 'instances.trust', system: 'record', undo: null, when: 'the guest runs' },
        { name: 'hypervisor.turnOff', system: 'libvirt', undo: null, when: 'the guest is off' },
        { name: 'networkInterfaces.unbind', system: 'ovn', undo: null, when: 'the guest is off' },
        { name: 'placement.release', system: 'placement', undo: null, when: 'the guest is off' },
        { name: 'instances.becomeStopped', system: 'record', undo: null, when: 'the guest is off' },
      ],
    },
    reboot: {
      summary: 'Reboot the guest, or reset it',
      mode: 'operation',
      from: ['running'],
      via: 'rebooting',
      to: 'running',
      input: object({
        mode: withDefault(oneOf('soft', 'force'), 'soft'),
      }),
      steps: [locate, { name: 'hypervisor.reboot', system: 'libvirt', undo: null }],
    },
    migrate: {
      summary: 'Move a running instance to another host without stopping it',
      mode: 'operation',
      from: ['running'],
      via: 'migrating',
      to: 'running',
      cancellable: true,
      input: object({
        hostId: Type.Optional(Uuid),
        bandwidthBytesPerSec: Type.Optional(Type.Integer({ minimum: 1_048_576, maximum: 12_500_000_000 })),
      }),
      pointOfNoReturn: 'networkInterfaces.bindToTarget',
      steps: [
        { name: 'placement.reserveMove', system: 'placement', undo: 'drop target claim' },
        { name: 'networkInterfaces.bindToBoth', system: 'ovn', undo: 'source only' },
        { name: 'hypervisor.migrate', system: 'libvirt', undo: 'abort job, or bring back' },
        { name: 'networkInterfaces.bindToTarget', system: 'ovn', undo: null },
        { name: 'hypervisor.leaveSource', system: 'libvirt', undo: null },
        { name: 'placement.settleMove', system: 'placement', undo: null },
      ],
    },
    delete: {
      summary: 'Destroy an instance; it can be recovered until the recovery window ends',
      mode: 'operation',
      lock: 'D',
      from: ['running', 'stopped'],
      via: 'destroying',
      to: 'destroyed',
      steps: [
        locate,
        { name: 'volumeRecords.attached', system: 'record', undo: null },
        { name: 'hypervisor.leave', system: 'libvirt', undo: 'boot again', ...ifRunning },
        { name: 'networkInterfaces.unplug', system: 'ovn', undo: 'create ports' },
        { name: 'volumeRecords.freeSlot', system: 'record', undo: 'reserve again', when: 'once per data volume' },
        { name: 'volumes.trash', system: 'rbd', undo: 'restore', when: 'the root volume is not to be kept' },
        { name: 'placement.vacate', system: 'placement', undo: 'claim again', ...ifRunning },
      ],
    },
    recover: {
      summary: 'Bring a destroyed instance back, stopped',
      mode: 'operation',
      from: ['destroyed'],
      via: 'recovering',
      to: 'stopped',
      steps: [
        locate,
        { name: 'volumes.restore', system: 'rbd', undo: 'trash again', when: 'the root volume was not kept' },
        plug,
      ],
    },
    expunge: {
      summary: 'Free a destroyed instance for good',
      mode: 'operation',
      lock: 'D',
      from: ['destroyed'],
      via: 'expunging',
      to: 'expunged',
      pointOfNoReturn: 'volumes.expunge',
      steps: [
        locate,
        { name: 'volumes.expunge', system: 'rbd', undo: null },
        { name: 'instances.forget', system: 'record', undo: null },
        { name: 'volumeRecords.keepRoot', system: 'record', undo: null, when: 'the root volume was kept' },
      ],
    },
  },
});
