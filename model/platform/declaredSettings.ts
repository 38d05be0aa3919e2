import { repairable } from './finding.ts';
import { manyTargets } from './operation.ts';

export interface DeclaredSetting {
  summary: string;
  area: string;
  schema: Record<string, unknown>;
  defaultValue: unknown;
  unit?: string;
}

const seconds = (minimum: number, maximum: number): Record<string, unknown> => ({ type: 'integer', minimum, maximum });

/** Global settings by key. */
export const declaredSettings: Record<string, DeclaredSetting> = {
  'instance.recoveryWindowSeconds': {
    summary: 'How long a destroyed instance or volume can be recovered',
    area: 'compute',
    schema: seconds(0, 31_536_000),
    defaultValue: 86_400,
    unit: 's',
  },
  'record.tombstoneSeconds': {
    summary: 'How long deleted resources can still be read with showDeleted',
    area: 'platform',
    schema: seconds(3600, 31_536_000),
    defaultValue: 2_592_000,
    unit: 's',
  },
  'idempotency.keepSeconds': {
    summary: 'How long the answer to an Idempotency-Key is kept',
    area: 'platform',
    schema: seconds(60, 604_800),
    defaultValue: 86_400,
    unit: 's',
  },
  'idempotency.keptPerAccount': {
    summary:
      'How many answers to Idempotency-Keys are kept for one account at a time; more are refused with TOO_MANY_OPEN',
    area: 'platform',
    schema: { type: 'integer', minimum: 10, maximum: 100_000_000 },
    defaultValue: 100_000,
  },
  'callback.deniedNetworks': {
    summary:
      'Networks that callbacks never go to: take out what your receivers are in, add where the control plane listens. An IPv6 address that stands for an IPv4 one counts as both',
    area: 'platform',
    schema: {
      type: 'array',
      maxItems: 256,
      items: { type: 'string', format: 'cidr', maxLength: 64 },
    },
    // This network, private, shared, loopback, link-local, for protocols and for benchmarks, multicast and reserved (RFC 6890); of IPv6 the
    // same, and addresses that a translator of the site gives an IPv4 one (RFC 8215).
    defaultValue: [
      '0.0.0.0/8',
      '10.0.0.0/8',
      '100.64.0.0/10',
      '127.0.0.0/8',
      '169.254.0.0/16',
      '172.16.0.0/12',
      '192.0.0.0/24',
      '192.168.0.0/16',
      '198.18.0.0/15',
      '224.0.0.0/3',
      '::/96',
      '64:ff9b:1::/48',
      'fc00::/7',
      'fe80::/9',
      'ff00::/8',
    ],
  },
  'schedule.leastIntervalSeconds': {
    summary: "How long after each other the runs of a project's schedule are at the least",
    area: 'platform',
    schema: seconds(60, 31_536_000),
    defaultValue: 60,
    unit: 's',
  },
  'schedule.targetsPerRun': {
    summary: 'How many resources one run of a schedule may be about',
    area: 'platform',
    schema: { type: 'integer', minimum: 1, maximum: manyTargets },
    defaultValue: manyTargets,
  },
  'trail.noteSeconds': {
    summary:
      'How often the head of the audit trail is signed, logged and written to the backup stores, when it has moved',
    area: 'platform',
    schema: seconds(10, 604_800),
    defaultValue: 3600,
    unit: 's',
  },
  'archive.operationSeconds': {
    summary: 'How long ended operations stay in the database; where there is a backup store they go there then',
    area: 'platform',
    schema: seconds(3600, 3_153_600_000),
    defaultValue: 7_776_000,
    unit: 's',
  },
  'archive.eventSeconds': {
    summary: 'The same of events',
    area: 'platform',
    schema: seconds(3600, 3_153_600_000),
    defaultValue: 7_776_000,
    unit: 's',
  },
  'archive.auditEntrySeconds': {
    summary: 'The same of audit entries',
    area: 'platform',
    schema: seconds(3600, 3_153_600_000),
    defaultValue: 31_536_000,
    unit: 's',
  },
  'audit.graceSeconds': {
    summary:
      'How long a difference between the records and what is real must last before it is told: what is being made or removed looks like one',
    area: 'platform',
    schema: seconds(0, 86_400),
    defaultValue: 30,
    unit: 's',
  },
  'audit.autoRepair': {
    summary: 'Which findings are repaired without asking: the system and the class',
    area: 'platform',
    schema: {
      type: 'array',
      maxItems: repairable.length,
      uniqueItems: true,
      items: { type: 'string', enum: [...repairable] },
    },
    defaultValue: ['ovn.missing', 'ovn.drifted'],
  },
  'finding.keepSeconds': {
    summary: 'How long findings that are over can still be read',
    area: 'platform',
    schema: seconds(3600, 3_153_600_000),
    defaultValue: 7_776_000,
    unit: 's',
  },
  'host.rotateCredentialsDays': {
    summary:
      'After how many days the SSH key of a host and the password of its BMC are changed by themselves; 0: never, and people know the passwords that they have set',
    area: 'platform',
    schema: { type: 'integer', minimum: 0, maximum: 3650 },
    defaultValue: 0,
    unit: 'd',
  },
  'ha.maxFailedHostsPercent': {
    summary:
      'How many of the hosts of a zone may fail at once and still be failed over without a person; one always may',
    area: 'platform',
    schema: { type: 'integer', minimum: 0, maximum: 100 },
    defaultValue: 25,
    unit: '%',
  },
  'fault.rules': {
    summary:
      'Faults that workers inject into steps, for drills and tests; read only where fault injection is switched on',
    area: 'platform',
    schema: {
      type: 'array',
      maxItems: 2000,
      items: {
        type: 'object',
        required: ['step', 'fault'],
        additionalProperties: false,
        properties: {
          targetId: { type: 'string', format: 'uuid' },
          operationType: { type: 'string', maxLength: 128 },
          step: { type: 'string', maxLength: 128 },
          fault: {
            type: 'string',
            enum: ['failBefore', 'failAfter', 'twice', 'undoTwice', 'die', 'undoFails', 'suspend'],
          },
          message: { type: 'string', maxLength: 128 },
          times: { type: 'integer', minimum: 1 },
        },
      },
    },
    defaultValue: [],
  },
};
