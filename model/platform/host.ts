import { Type } from 'typebox';
import {
  boolean,
  choice,
  Fingerprint,
  instant,
  integer,
  json,
  kind,
  object,
  oneOf,
  ref,
  text,
  Uuid,
  withDefault,
} from '../kind.ts';
import { shardCount } from '../shards.ts';
import { hostMetrics } from '../views.ts';
import { hostCredentials } from './credentials.ts';
import { bmcProtocols, powerCommands } from './power.ts';

/** What becomes of the instances of a host that is emptied. */
const leaving = withDefault(
  {
    ...oneOf('migrate', 'stop', 'refuse'),
    description:
      'Those that run there move to other hosts without stopping, or are stopped, or keep it from entering maintenance',
  },
  'migrate',
);
const movesAtOnce = withDefault(Type.Integer({ minimum: 1, maximum: 20 }), 4);
const reason = Type.Optional(
  Type.String({ maxLength: 1024, description: 'Told with the host until it is used again' }),
);
const moveBack = Type.Optional(
  Type.Boolean({
    description:
      'What has left it for this maintenance comes back, and what was stopped for it is started. What can not is told in the result, and stays as it is',
  }),
);

/** What the maintenance of a host is told, whether it is of one or of all of a cluster. */
export const maintaining = {
  hook: withDefault(
    {
      ...oneOf('none', 'connect', 'reboot', 'wait'),
      description:
        'What is done while it is empty. connect: agent and settings are brought up to date; reboot: it starts anew, and is awaited; wait: until a person says `operation.continue`',
    },
    'none',
  ),
  byBmc: Type.Optional(
    Type.Boolean({
      description:
        'With the hook reboot: its BMC takes its power and gives it back, and its operating system is not asked. Else that is done only where its agent does not obey, and it has a BMC',
    }),
  ),
  instances: leaving,
  moveBack,
  maxParallel: movesAtOnce,
  reason,
};

/** Hosts in these states are watched, and can be given work. */
export const servingStates = ['active', 'enteringMaintenance', 'maintenance'] as const;

/** Brings the agent and the settings of a host up to date. */
const renewal = [
  'hosts.reach',
  'hosts.installAgent',
  'hosts.renewHypervisor',
  'hosts.renewSwitch',
  'hosts.renewStorage',
  'hosts.probe',
] as const;

export const host = kind({
  name: 'host',
  plural: 'hosts',
  area: 'platform',
  scope: 'platform',
  summary: 'A physical machine that runs instances',
  fields: {
    clusterId: ref('cluster', 'create!'),
    podId: ref('pod', 'system', { onDelete: 'ignore' }),
    zoneId: ref('zone', 'system', { onDelete: 'ignore' }),
    address: text(253, 'patch!', { description: 'IP address or name; `sim://` addresses name simulated hosts' }),
    sshPort: integer(1, 65535, 'patch', { default: 22 }),
    sshUser: text(64, 'create', { default: 'root' }),
    sshHostKey: text(1024, 'create', { description: 'Pinned at first contact when not given' }),
    sshPrivateKey: text(16384, 'input', { secret: true }),
    sshPassword: text(256, 'input', { secret: true }),
    bmc: json(
      object({
        protocol: oneOf(...bmcProtocols),
        address: Type.String({ minLength: 1, maxLength: 253 }),
        port: Type.Optional(
          Type.Integer({ minimum: 1, maximum: 65_535, description: '623 for ipmi, 443 for redfish' }),
        ),
        user: Type.String({ minLength: 1, maxLength: 64 }),
        certificate: Type.Optional({
          ...Fingerprint,
          description: 'SHA-256 of its certificate (redfish); pinned at first contact when not given',
        }),
        system: Type.Optional(
          Type.String({
            minLength: 1,
            maxLength: 128,
            description: 'Which of several systems of one BMC it is (redfish)',
          }),
        ),
      }),
      'patch',
      {
        description:
          'What switches its power, whatever its operating system does. Changed only together with its password',
      },
    ),
    bmcPassword: text(256, 'patch', { secret: true }),
    bmcDisprovedAt: instant('system', {
      description:
        'When its BMC said of it what was not seen, such as that it is off: it is the BMC of another machine, and believed by nobody until the host is updated with the right one',
    }),
    credentialsRotatedAt: instant('system', {
      description: 'When the key of its SSH and the password of its BMC were changed by rotateCredentials',
    }),
    powerState: choice(['on', 'off', 'unknown'], 'system', {
      default: 'unknown',
      description: 'As its BMC says; unknown: it has none, or that does not answer',
    }),
    powerObservedAt: instant('system', { description: 'When its BMC was asked last, whether it answered or not' }),
    underlayAddress: text(45, 'patch', { description: 'Tunnel endpoint; the address unless said' }),
    enabled: boolean('patch', { default: true, description: 'false: nothing new is placed on it' }),
    vcpus: integer(0, 4096, 'system'),
    memoryMib: integer(0, 67_108_864, 'system'),
    kvm: boolean('system', { description: 'A guest really booted with KVM; otherwise QEMU emulates' }),
    inventory: json(Type.Unknown(), 'system'),
    connection: choice(['connected', 'degraded', 'disconnected'], 'system', {
      default: 'disconnected',
      description:
        'degraded: the connection broke; disconnected: no answer for six seconds, nothing new is placed there',
    }),
    health: choice(['well', 'unreachable', 'suspect', 'down'], 'system', {
      default: 'well',
      description:
        'unreachable: only the control plane misses it, or nobody else can tell; suspect: other hosts and the storage miss it, too; down: they miss it still when they are asked again',
    }),
    healthReason: text(1024, 'system', { description: 'Why that is so, and what happens next' }),
    healthSince: instant('system'),
    lastSeenAt: instant('system', {
      description:
        'When it was heard last; while it is connected that is written every fifteen seconds, and less often where one worker carries more than five hundred hosts',
    }),
    shard: integer(0, shardCount - 1, 'system', {
      description: 'Which share of all hosts it belongs to; each is carried by one host worker',
    }),
    deadAt: instant('system', {
      description: 'When an operator confirmed that it is dead, or its BMC that it was switched off for its failover',
    }),
    fencedAt: instant('system', { description: 'When it was shut out of its storage; null while it is not' }),
    stateReason: text(1024, 'system', { description: 'Why it was shut out, as whoever asked for it said' }),
    storageClients: json(Type.Unknown(), 'system', {
      description: 'By storage cluster, the addresses under which that knows it',
    }),
    agentVersion: text(64, 'system'),
    maintenanceReason: text(1024, 'system', {
      description: 'Why it is in maintenance, as whoever brought it there said',
    }),
  },
  states: [
    'adding',
    'connecting',
    'active',
    'enteringMaintenance',
    'maintenance',
    'exitingMaintenance',
    'fencing',
    'fenced',
    'reinstating',
    'deleting',
    'failed',
  ],
  orderable: ['address'],
  views: { metrics: hostMetrics },
  unique: [{ fields: ['address', 'sshPort'], code: 'ADDRESS_IN_USE', blame: 'address' }],
  actions: {
    create: {
      summary: 'Add a host by SSH address and key; the agent and all it needs are installed',
      mode: 'operation',
      operatorOnly: true,
      via: 'adding',
      to: 'active',
      cancellable: true,
      steps: ['hosts.reach', 'hosts.reachBmc', 'hosts.install', 'hosts.configure', 'hosts.enable'],
    },
    update: { summary: 'Change a host', mode: 'sync', operatorOnly: true },
    connect: {
      summary: 'Reconnect and upgrade the agent',
      happened: 'connected',
      mode: 'operation',
      givesWay: true,
      operatorOnly: true,
      from: ['active', 'maintenance'],
      via: 'connecting',
      steps: renewal,
    },
    enterMaintenance: {
      summary: 'Bring everything that runs on it elsewhere, and keep it empty',
      happened: 'maintenanceEntered',
      permitsChildren: true,
      mode: 'operation',
      givesWay: true,
      operatorOnly: true,
      from: ['active'],
      via: 'enteringMaintenance',
      to: 'maintenance',
      cancellable: true,
      input: object({
        instances: leaving,
        maxParallel: movesAtOnce,
        reason,
      }),
      steps: [
        'hosts.noteMaintenance',
        'hosts.findLeaving',
        {
          name: 'leave',
          system: 'operation',
          undo: 'cancel it while it runs',
          when: 'once for each instance',
        },
        'hosts.proveEmpty',
      ],
    },
    exitMaintenance: {
      summary: 'Bring its agent and settings up to date, and use it again',
      happened: 'maintenanceExited',
      permitsChildren: true,
      mode: 'operation',
      givesWay: true,
      operatorOnly: true,
      from: ['maintenance'],
      via: 'exitingMaintenance',
      to: 'active',
      cancellable: true,
      input: object({
        moveBack,
        maxParallel: movesAtOnce,
      }),
      steps: [
        ...renewal,
        { name: 'hosts.findReturning', when: 'moveBack is given' },
        'hosts.reopen',
        {
          name: 'return',
          system: 'operation',
          undo: 'cancel it while it runs',
          when: 'moveBack is given, once for each instance',
        },
      ],
    },
    maintain: {
      summary: 'Empty it, work on it, and use it again',
      happened: 'maintained',
      permitsChildren: true,
      mode: 'operation',
      operatorOnly: true,
      // Whoever works on it while it is empty must not have to wait for this.
      holdsTarget: false,
      cancellable: true,
      input: object(maintaining),
      pointOfNoReturn: 'hosts.reboot',
      steps: [
        { name: 'hosts.readBoot', when: 'hook is reboot' },
        { name: 'enter', system: 'operation', undo: 'host.exitMaintenance', when: 'always' },
        { name: 'connect', system: 'operation', undo: 'cancel it while it runs', when: 'hook is connect' },
        { name: 'people.wait', when: 'hook is wait' },
        { name: 'hosts.reboot', when: 'hook is reboot' },
        {
          name: 'power',
          system: 'operation',
          undo: null,
          when: 'byBmc is given, or its agent does not obey and it has a BMC',
        },
        {
          name: 'exit',
          system: 'operation',
          undo: 'cancel it while it runs',
          when: 'nobody has taken it back into use meanwhile',
        },
      ],
    },
    failover: {
      summary: 'Shut a host that has failed out of its storage, and start its instances elsewhere',
      happened: 'fenced',
      permitsChildren: true,
      mode: 'operation',
      overtakes: true,
      operatorOnly: true,
      from: ['active', 'maintenance', 'fenced'],
      via: 'fencing',
      to: 'fenced',
      cancellable: true,
      input: object({
        confirmDead: Type.Optional(
          Type.Boolean({
            description:
              'It is switched off. Then instances whose disks lie where no host can be shut out are started elsewhere, too; were it still running, two guests would write to one disk',
          }),
        ),
        reason: Type.Optional(
          Type.String({ maxLength: 1024, description: 'Told with the host until it is used again' }),
        ),
      }),
      pointOfNoReturn: 'hosts.fence',
      steps: [
        'hosts.proveDown',
        'hosts.noteFailed',
        'hosts.fence',
        'hosts.cutPower',
        'hosts.noteFenced',
        'hosts.findStranded',
        { name: 'restart', system: 'operation', undo: null, when: 'once for each instance' },
      ],
    },
    reinstate: {
      summary: 'Use a host again that was shut out: what it still runs is ended, and its storage is opened to it',
      happened: 'reinstated',
      mode: 'operation',
      operatorOnly: true,
      from: ['fenced'],
      via: 'reinstating',
      to: 'active',
      cancellable: true,
      pointOfNoReturn: 'hosts.readmit',
      steps: [
        'hosts.lookAtPower',
        { name: 'hosts.wake', when: 'its BMC says that it is off' },
        'hosts.reach',
        'hosts.installAgent',
        'hosts.clearStrays',
        'hosts.dropCredentials',
        'hosts.unfence',
        'hosts.renewHypervisor',
        'hosts.renewSwitch',
        'hosts.renewStorage',
        'hosts.probe',
        'hosts.proveWritable',
        'hosts.readmit',
      ],
    },
    power: {
      summary: 'Switch its power by its BMC',
      happened: 'powerSwitched',
      mode: 'operation',
      operatorOnly: true,
      from: ['active', 'maintenance', 'fenced'],
      cancellable: true,
      input: object({
        command: {
          ...oneOf(...powerCommands),
          description:
            'softOff asks its operating system to shut down; off, cycle (off and on again) and reset ask nobody',
        },
        force: Type.Optional(
          Type.Boolean({
            description:
              'Also while it is in use, and with guests on it: those end as by a power cut, and may be started elsewhere',
          }),
        ),
      }),
      pointOfNoReturn: 'hosts.switchPower',
      steps: ['hosts.checkPower', 'hosts.switchPower', 'hosts.awaitPower'],
    },
    rotateCredentials: {
      summary: 'Change the key by which the platform enters it, and the password of its BMC',
      happened: 'credentialsRotated',
      mode: 'operation',
      givesWay: true,
      operatorOnly: true,
      from: ['active', 'maintenance'],
      cancellable: true,
      input: object({
        credentials: withDefault(
          {
            ...Type.Array(oneOf(...hostCredentials), { minItems: 1, uniqueItems: true }),
            description: 'sshKey: a key for this host alone; bmcPassword: where it has a BMC',
          },
          [...hostCredentials],
        ),
      }),
      pointOfNoReturn: 'hosts.adoptCredentials',
      steps: [
        'hosts.makeCredentials',
        'hosts.addCredentials',
        'hosts.verifyCredentials',
        'hosts.adoptCredentials',
        'hosts.dropCredentials',
      ],
    },
    collectDiagnostics: {
      summary: 'Collect logs and what its programs say of themselves, as the result of the operation',
      happened: 'diagnosticsCollected',
      mode: 'operation',
      operatorOnly: true,
      lock: 'S',
      cancellable: true,
      steps: ['hosts.collectDiagnostics'],
    },
    removeStray: {
      summary: 'End a guest on it that is not at home there, and forget it',
      happened: 'strayRemoved',
      mode: 'operation',
      givesWay: true,
      operatorOnly: true,
      from: ['active', 'maintenance'],
      input: object({ instanceId: { ...Uuid, description: 'The instance, or what was one, whose guest it is' } }),
      pointOfNoReturn: 'hosts.removeStray',
      steps: ['hosts.findStray', 'hosts.removeStray'],
    },
    delete: {
      summary: 'Remove an empty host and clean it',
      mode: 'operation',
      operatorOnly: true,
      lock: 'D',
      from: ['active', 'maintenance', 'fenced'],
      via: 'deleting',
      to: 'deleted',
      input: object({
        force: Type.Optional(
          Type.Boolean({ description: 'It does not answer: what can only be undone on it is left undone' }),
        ),
        confirmDead: Type.Optional(
          Type.Boolean({
            description:
              'With force: it is switched off, and will not come back as it was. Its instances become stopped and may be started elsewhere; were it still running, two guests would write to one disk',
          }),
        ),
      }),
      pointOfNoReturn: 'hosts.clean',
      steps: [
        { name: 'hosts.disable', when: 'confirmDead is not given' },
        { name: 'hosts.declareDead', when: 'confirmDead is given' },
        'hosts.clean',
        { name: 'hosts.freeGuests', when: 'confirmDead is given' },
        'hosts.uninstall',
        'hosts.forget',
      ],
    },
  },
});
