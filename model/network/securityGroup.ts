import { type Static, Type } from 'typebox';
import { boolean, field, json, kind, object, oneOf, Uuid } from '../kind.ts';
import type { Family } from './ipAddress.ts';
import { contradictionsOfTransport, familyOfProtocol, transport } from './transport.ts';

/** So many rules in one group. */
const rulesMax = 256;

export const SecurityRule = object({
  direction: oneOf('in', 'out'),
  family: Type.Optional(
    Type.Unsafe<Family>({
      type: 'integer',
      enum: [4, 6],
      description:
        'Of what it lets through: 4 is IPv4, 6 is IPv6. When not given: 6 for icmpv6, that of its remoteCidr or its address group, else 4',
    }),
  ),
  ...transport,
  remoteCidr: Type.Optional(
    Type.String({
      format: 'cidr',
      maxLength: 49,
      description: 'Where it comes from, or goes to; anywhere when no remote is given',
    }),
  ),
  remoteAddressGroupId: Type.Optional({
    ...Uuid,
    description: 'An address group of the family: any of its entries, as they are at the time',
  }),
  remoteSecurityGroupId: Type.Optional({
    ...Uuid,
    description:
      'A security group of the zone, maybe this one: any address of an interface that carries it, as they are at the time',
  }),
  enabled: Type.Optional(
    Type.Boolean({ description: 'false: it is kept, and lets nothing through; true when not given' }),
  ),
  note: Type.Optional(Type.String({ maxLength: 255 })),
});

export type Rule = Static<typeof SecurityRule>;

type Wrong = { field: keyof Rule; message: string };

const remotes = ['remoteCidr', 'remoteAddressGroupId', 'remoteSecurityGroupId'] as const;
const familyOfCidr = (cidr: string | undefined): Family | undefined =>
  cidr === undefined ? undefined : cidr.includes(':') ? 6 : 4;

/** What a rule is for. `ofAddressGroup` is the family of the group that it names. */
export const familyOf = (rule: Rule, ofAddressGroup?: Family): Family =>
  rule.family ?? familyOfProtocol(rule.protocol) ?? familyOfCidr(rule.remoteCidr) ?? ofAddressGroup ?? 4;

/** What of a rule can not be meant together with the rest of it. */
export function contradictionsOf(rule: Rule): Wrong[] {
  const wrong = (when: boolean, field: keyof Rule, message: string): Wrong[] => (when ? [{ field, message }] : []);
  const given = remotes.filter((field) => rule[field] !== undefined);
  const family = familyOf(rule);
  const ofProtocol = familyOfProtocol(rule.protocol) ?? family;
  return [
    ...contradictionsOfTransport(rule),
    ...wrong(ofProtocol !== family, 'protocol', `is of IPv${ofProtocol}, and the rule is for IPv${family}`),
    ...wrong(
      (familyOfCidr(rule.remoteCidr) ?? family) !== family,
      'remoteCidr',
      `must be an IPv${family} network, as the rule is for IPv${family}`,
    ),
    ...given.slice(1).map((field) => ({ field, message: `can not stand beside ${given[0]}: a rule has one remote` })),
  ];
}

/** What rules name, each once. */
const namedIn = (rules: readonly Rule[], field: 'remoteAddressGroupId' | 'remoteSecurityGroupId'): string[] => [
  ...new Set(rules.flatMap((rule) => rule[field] ?? [])),
];
export const addressGroupsIn = (rules: readonly Rule[]): string[] => namedIn(rules, 'remoteAddressGroupId');
export const securityGroupsIn = (rules: readonly Rule[]): string[] => namedIn(rules, 'remoteSecurityGroupId');

/** Stateful allow rules on interfaces; everything else inbound is dropped. Outbound is open unless a carried group has a rule for it. */
export const securityGroup = kind({
  name: 'securityGroup',
  plural: 'security-groups',
  area: 'network',
  scope: 'project',
  summary: 'Which traffic may reach the interfaces that carry it',
  fields: {
    zoneId: json(Type.String({ format: 'uuid' }), 'create!', { ref: 'zone', onDelete: 'block' }),
    rules: json(Type.Array(SecurityRule, { maxItems: rulesMax }), 'create', { default: [] }),
    addressGroupIds: field(Type.Array(Uuid, { maxItems: rulesMax, uniqueItems: true }), 'system', {
      ref: 'addressGroup',
      onDelete: 'block',
      default: [],
      description: 'Those that its rules name',
    }),
    remoteSecurityGroupIds: field(Type.Array(Uuid, { maxItems: rulesMax, uniqueItems: true }), 'system', {
      ref: 'securityGroup',
      onDelete: 'block',
      default: [],
      description: 'Those that its rules name; maybe itself',
    }),
    isDefault: boolean('system', { default: false }),
  },
  states: ['creating', 'ready', 'updating', 'deleting', 'failed'],
  unique: [{ fields: ['projectId'], among: { isDefault: true }, code: 'NAME_IN_USE' }],
  actions: {
    create: {
      summary: 'Make a security group',
      mode: 'operation',
      via: 'creating',
      to: 'ready',
      cancellable: true,
      steps: ['securityGroups.make'],
    },
    update: { summary: 'Change name and labels', mode: 'sync' },
    setRules: {
      summary: 'Replace all rules at once',
      happened: 'rulesSet',
      mode: 'operation',
      from: ['ready'],
      via: 'updating',
      to: 'ready',
      input: object({ rules: Type.Array(SecurityRule, { maxItems: rulesMax }) }),
      pointOfNoReturn: 'securityGroups.recordRules',
      steps: ['securityGroups.replaceRules', 'securityGroups.recordRules'],
    },
    repair: {
      summary: 'Write its rows anew from the records',
      happened: 'repaired',
      mode: 'operation',
      from: ['ready'],
      to: 'ready',
      pointOfNoReturn: 'securityGroups.make',
      steps: ['securityGroups.make'],
    },
    delete: {
      summary: 'Remove a group that no interface carries and no rule of another names',
      mode: 'operation',
      lock: 'D',
      from: ['ready'],
      via: 'deleting',
      to: 'deleted',
      pointOfNoReturn: 'securityGroups.remove',
      steps: ['securityGroups.proveUnused', 'securityGroups.remove'],
    },
  },
});
