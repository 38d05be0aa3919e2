import { Type } from 'typebox';
import { choice, field, Instant, instant, integer, json, kind, object, oneOf, text, Uuid } from '../kind.ts';

export const scanScopes = ['host', 'storagePool', 'network', 'risk'] as const;
export type ScanScope = (typeof scanScopes)[number];

/** What may be repaired without asking: a class of findings, where they are seen. An orphaned volume is not among it: a person must ask for that. */
export const repairable = ['ovn.missing', 'ovn.drifted', 'ovn.orphan', 'libvirt.missing', 'libvirt.orphan'] as const;

/** A difference between the records and what is real, or a risk. There is one of each sort for each resource, however often it is seen. */
export const finding = kind({
  name: 'finding',
  plural: 'findings',
  area: 'platform',
  scope: 'platform',
  summary: 'A difference between the records and what is real, or a risk that a person should know of',
  readOnly: true,
  fields: {
    class: choice(['orphan', 'missing', 'drifted', 'misplaced', 'duplicate', 'risk'], 'system', {
      description:
        'orphan: real and in no record; missing: recorded and not real; drifted: not as recorded; misplaced: on another host or pool; duplicate: there twice; risk: all is as recorded, and something may go wrong',
    }),
    severity: choice(['info', 'warning', 'error', 'critical'], 'system', { default: 'warning' }),
    what: text(64, 'system', { description: 'Which difference or risk it is, in one word, such as `hostUnreachable`' }),
    resourceKind: text(64, 'system'),
    resourceId: field(Uuid, 'system'),
    system: text(32, 'system', { description: 'Where it was seen, such as host, libvirt or rbd' }),
    location: text(253, 'system', { description: 'The host, pool or zone where it was seen, by its id' }),
    expected: text(1024, 'system'),
    actual: text(1024, 'system', { description: 'What was found instead, and what a person can do' }),
    sightings: integer(1, 2_147_483_647, 'system', { default: 1 }),
    firstSeenAt: instant('system'),
    lastSeenAt: instant('system'),
    openedAt: instant('system', { description: 'When it was seen often enough to be told' }),
    repair: json(
      object({
        action: Type.String(),
        targetId: Type.Optional(Type.Union([Uuid, Type.Null()])),
        input: Type.Unknown(),
      }),
      'system',
      {
        description:
          'What would mend it: an action, on the resource itself unless it says on which; null where a person must find a way',
      },
    ),
    ignoredUntil: instant('system'),
    ignoreReason: text(1024, 'system'),
    note: text(1024, 'patch', { description: 'For people: what is known about it, and who looks after it' }),
  },
  states: ['sighted', 'open', 'repairing', 'repaired', 'ignored', 'gone'],
  orderable: ['lastSeenAt'],
  unique: [{ fields: ['class', 'resourceKind', 'resourceId', 'what'], code: 'NAME_IN_USE' }],
  actions: {
    update: { summary: 'Change the note on a finding', mode: 'sync', operatorOnly: true },
    scan: {
      summary: 'Compare the records with what is real, now',
      happened: 'scanned',
      mode: 'operation',
      on: 'collection',
      operatorOnly: true,
      cancellable: true,
      input: object({
        scope: Type.Optional({
          ...oneOf(...scanScopes),
          description:
            'host: the guests of hosts; storagePool: what lies in pools; network: the northbound database of OVN; risk: what may go wrong. Without it, all of them',
        }),
        id: Type.Optional({ ...Uuid, description: 'Only this host, or this pool; goes with that scope' }),
      }),
      steps: [
        { name: 'audits.firstHosts', when: 'hosts are looked at' },
        { name: 'audits.hosts', when: 'once for each page of hosts' },
        { name: 'audits.pools', when: 'pools are looked at' },
        { name: 'audits.pool', when: 'once for each pool' },
        { name: 'audits.network', when: 'the network is looked at' },
        { name: 'audits.risks', when: 'risks are looked at' },
      ],
    },
    repair: {
      summary: 'Do what mends it',
      happened: 'repaired',
      permitsChildren: true,
      mode: 'operation',
      operatorOnly: true,
      from: ['open', 'ignored'],
      via: 'repairing',
      to: 'repaired',
      cancellable: true,
      steps: [
        'findings.examine',
        { name: 'mend', system: 'operation', undo: 'cancel it while it runs', when: 'always' },
      ],
    },
    ignore: {
      summary: 'Tell nobody of it for a while',
      happened: 'ignored',
      mode: 'sync',
      operatorOnly: true,
      from: ['open', 'ignored'],
      to: 'ignored',
      input: object({
        until: { ...Instant, description: 'Seen again after this moment, it is open again' },
        reason: Type.String({ minLength: 1, maxLength: 1024 }),
      }),
    },
  },
});
