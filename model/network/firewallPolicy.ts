import { type Static, Type } from 'typebox';
import { field, json, kind, object, oneOf, Uuid } from '../kind.ts';
import type { Family } from './ipAddress.ts';
import { contradictionsOfTransport, familyOfProtocol, port, transport } from './transport.ts';

/** So many rules in one policy. */
export const policyRulesMax = 256;

export const FirewallEnd = object({
  cidr: Type.Optional(
    Type.String({ format: 'cidr', maxLength: 49, description: 'A network of the family of the rule' }),
  ),
  addressGroupId: Type.Optional({
    ...Uuid,
    description: 'An address group of the family: any of its entries, as they are at the time',
  }),
});

export const FirewallRule = object({
  priority: Type.Integer({
    minimum: 1,
    maximum: 65_535,
    description: 'Of the rules of one direction that a packet fits, that with the lowest number decides',
  }),
  direction: oneOf('in', 'out'),
  action: {
    ...oneOf('allow', 'deny', 'reject'),
    description: 'deny: it is lost; reject: its sender is told; allow: security groups decide',
  },
  family: Type.Optional(
    Type.Unsafe<Family>({
      type: 'integer',
      enum: [4, 6],
      description:
        '4 is IPv4, 6 is IPv6. When not given: that of its protocol, its source or its destination, else both',
    }),
  ),
  ...transport,
  fromPort: Type.Optional({ ...port, description: 'To which port, of tcp and udp; all ports when not given' }),
  source: Type.Optional({ ...FirewallEnd, description: 'Where it comes from; anywhere when not given' }),
  destination: Type.Optional({ ...FirewallEnd, description: 'Where it goes to; anywhere when not given' }),
  stateful: Type.Optional(
    Type.Boolean({
      description: 'Answers to what it lets pass do pass; on networks that is always so, and false is refused',
    }),
  ),
  log: Type.Optional(
    Type.Boolean({ description: 'What it denies or rejects is written to the log of the host; false when not given' }),
  ),
  enabled: Type.Optional(Type.Boolean({ description: 'false: it is kept, and decides nothing; true when not given' })),
  note: Type.Optional(Type.String({ maxLength: 255 })),
});

export type PolicyRule = Static<typeof FirewallRule>;
export type PolicyEnd = Static<typeof FirewallEnd>;

const Defaults = object({ in: oneOf('allow', 'deny'), out: oneOf('allow', 'deny') });
export type PolicyDefaults = Static<typeof Defaults>;

type Wrong = { index: number; field: string; message: string };
type FamilyOfGroup = (addressGroupId: string) => Family | undefined;

const ends = ['source', 'destination'] as const;

/** What of a rule says for which family it is, each with the field that says so. */
function familiesSaid(rule: PolicyRule, familyOfGroup: FamilyOfGroup): { field: string; family: Family }[] {
  const said: { field: string; family: Family }[] = [];
  const add = (field: string, family: Family | undefined): void => {
    if (family !== undefined) said.push({ field, family });
  };
  add('family', rule.family);
  add('protocol', familyOfProtocol(rule.protocol));
  for (const end of ends) {
    const { cidr, addressGroupId } = rule[end] ?? {};
    if (cidr !== undefined) add(`${end}.cidr`, cidr.includes(':') ? 6 : 4);
    if (addressGroupId !== undefined) add(`${end}.addressGroupId`, familyOfGroup(addressGroupId));
  }
  return said;
}

/** What a rule is for: one family where something of it says so, else both. */
export function familiesOf(rule: PolicyRule, familyOfGroup: FamilyOfGroup = () => undefined): readonly Family[] {
  const [first] = familiesSaid(rule, familyOfGroup);
  return first ? [first.family] : [4, 6];
}

function contradictionsOf(rule: PolicyRule, familyOfGroup: FamilyOfGroup): Omit<Wrong, 'index'>[] {
  const wrong: Omit<Wrong, 'index'>[] = contradictionsOfTransport(rule);
  const add = (when: boolean, field: string, message: string): void => {
    if (when) wrong.push({ field, message });
  };
  for (const end of ends)
    add(
      rule[end]?.cidr !== undefined && rule[end]?.addressGroupId !== undefined,
      `${end}.addressGroupId`,
      'can not stand beside cidr: an end is one of the two',
    );
  const said = familiesSaid(rule, familyOfGroup);
  for (const { field, family } of said.slice(1))
    add(
      family !== said[0]?.family,
      field,
      `is of IPv${family}, and the ${said[0]?.field} of the rule is of IPv${said[0]?.family}`,
    );
  add(
    rule.stateful === false,
    'stateful',
    'must be true: connections of a network are tracked, as its security groups need that',
  );
  add(
    rule.log === true && rule.action === 'allow',
    'log',
    'goes with deny or reject only: of what is allowed, security groups decide',
  );
  return wrong;
}

/** What of the rules can not be meant. */
export function contradictionsIn(
  rules: readonly PolicyRule[],
  familyOfGroup: FamilyOfGroup = () => undefined,
): Wrong[] {
  const first = new Map<string, number>();
  return rules.flatMap((rule, index) => {
    const wrong = contradictionsOf(rule, familyOfGroup);
    const place = `${rule.direction} ${rule.priority}`;
    const other = first.get(place);
    if (other === undefined) first.set(place, index);
    else
      wrong.push({
        field: 'priority',
        message: `${rule.priority} is that of rules.${other} already: of one direction each rule has its own`,
      });
    return wrong.map((one) => ({ index, ...one }));
  });
}

/** Address groups that rules name, each once. */
export const groupsIn = (rules: readonly PolicyRule[]): string[] => [
  ...new Set(rules.flatMap((rule) => ends.flatMap((end) => rule[end]?.addressGroupId ?? []))),
];

const rulesSchema = Type.Array(FirewallRule, { maxItems: policyRulesMax });

/** Ordered rules that decide on whole networks before security groups do. */
export const firewallPolicy = kind({
  name: 'firewallPolicy',
  plural: 'firewall-policies',
  area: 'network',
  scope: 'project',
  summary: 'Ordered rules for all interfaces of the networks that carry it',
  fields: {
    rules: json(rulesSchema, 'create', { default: [] }),
    defaults: json(Defaults, 'create', {
      default: { in: 'deny', out: 'allow' },
      description: 'What is done with packets that no rule fits',
    }),
    addressGroupIds: field(Type.Array(Uuid, { maxItems: 2 * policyRulesMax, uniqueItems: true }), 'system', {
      ref: 'addressGroup',
      onDelete: 'block',
      default: [],
      description: 'Those that its rules name',
    }),
  },
  states: ['creating', 'ready', 'updating', 'deleting', 'failed'],
  views: {
    attachments: {
      summary: 'What carries it',
      answer: object({
        items: Type.Array(object({ kind: oneOf('network'), id: Uuid, name: Type.String() })),
      }),
    },
  },
  actions: {
    create: {
      summary: 'Make a firewall policy',
      mode: 'operation',
      via: 'creating',
      to: 'ready',
      cancellable: true,
      steps: ['firewallPolicies.make'],
    },
    update: { summary: 'Change name and labels', mode: 'sync' },
    setRules: {
      summary: 'Replace all rules at once, and the defaults where they are given',
      happened: 'rulesSet',
      mode: 'operation',
      from: ['ready'],
      via: 'updating',
      to: 'ready',
      input: object({ rules: rulesSchema, defaults: Type.Optional(Defaults) }),
      tells: object({ defaults: Defaults }),
      pointOfNoReturn: 'firewallPolicies.recordRules',
      steps: ['firewallPolicies.replaceRules', 'firewallPolicies.recordRules'],
    },
    repair: {
      summary: 'Write its rows anew from the records',
      happened: 'repaired',
      mode: 'operation',
      from: ['ready'],
      to: 'ready',
      pointOfNoReturn: 'firewallPolicies.make',
      steps: ['firewallPolicies.make'],
    },
    delete: {
      summary: 'Remove a policy that no network carries',
      mode: 'operation',
      lock: 'D',
      from: ['ready'],
      via: 'deleting',
      to: 'deleted',
      pointOfNoReturn: 'firewallPolicies.remove',
      steps: ['firewallPolicies.proveUnused', 'firewallPolicies.remove'],
    },
  },
});
