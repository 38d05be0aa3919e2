import { type Static, Type } from 'typebox';
import { boolean, Cidr, field, json, kind, object, oneOf, Uuid } from '../kind.ts';

const port = Type.Integer({ minimum: 1, maximum: 65_535 });
/** So many rules in one group. */
const rulesMax = 256;
const byte = Type.Integer({ minimum: 0, maximum: 255 });

export const SecurityRule = object({
  direction: oneOf('in', 'out'),
  protocol: oneOf('any', 'tcp', 'udp', 'icmp'),
  fromPort: Type.Optional({ ...port, description: 'Of tcp and udp; all ports when not given' }),
  toPort: Type.Optional({ ...port, description: 'fromPort when not given' }),
  icmpType: Type.Optional({ ...byte, description: 'Of icmp; all types when not given' }),
  icmpCode: Type.Optional({ ...byte, description: 'All codes of the type when not given' }),
  remoteCidr: Type.Optional({ ...Cidr, description: 'IPv4; where it comes from, or goes to; anywhere when not given' }),
  remoteAddressGroupId: Type.Optional({
    ...Uuid,
    description: 'An address group of IPv4: any of its entries, as they are at the time; not beside remoteCidr',
  }),
  note: Type.Optional(Type.String({ maxLength: 255 })),
});

type Rule = Static<typeof SecurityRule>;

/** What of a rule can not be meant together with the rest of it. */
export function contradictionsOf(rule: Rule): { field: keyof Rule; message: string }[] {
  const { protocol, fromPort, toPort, icmpType, icmpCode } = rule;
  const foreign = (fields: (keyof Rule)[], owners: string[]): { field: keyof Rule; message: string }[] =>
    owners.includes(protocol)
      ? []
      : fields
          .filter((field) => rule[field] !== undefined)
          .map((field) => ({
            field,
            message: `goes with the protocol ${owners.join(' or ')} only, not with ${protocol}`,
          }));
  return [
    ...foreign(['fromPort', 'toPort'], ['tcp', 'udp']),
    ...foreign(['icmpType', 'icmpCode'], ['icmp']),
    ...(toPort !== undefined && fromPort === undefined
      ? [{ field: 'toPort' as const, message: 'needs fromPort beside it' }]
      : []),
    ...(toPort !== undefined && fromPort !== undefined && toPort < fromPort
      ? [{ field: 'toPort' as const, message: `must be at least fromPort, which is ${fromPort}` }]
      : []),
    ...(icmpCode !== undefined && icmpType === undefined
      ? [{ field: 'icmpCode' as const, message: 'needs icmpType beside it' }]
      : []),
    ...(rule.remoteCidr !== undefined && rule.remoteAddressGroupId !== undefined
      ? [{ field: 'remoteAddressGroupId' as const, message: 'can not stand beside remoteCidr: a rule has one of them' }]
      : []),
  ];
}

/** The address groups that rules name, each once. */
export const addressGroupsIn = (rules: readonly Rule[]): string[] => [
  ...new Set(rules.flatMap(({ remoteAddressGroupId }) => remoteAddressGroupId ?? [])),
];

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
      summary: 'Remove a group that no interface carries',
      mode: 'operation',
      lock: 'D',
      from: ['ready'],
      via: 'deleting',
      to: 'deleted',
      pointOfNoReturn: 'securityGroups.remove',
      steps: ['securityGroups.remove'],
    },
  },
});
