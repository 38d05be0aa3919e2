/** Whether a packet passes an interface, and what decides that: told from records alone, as docs/api.md says it ("Security groups"). */
import { Type } from 'typebox';
import { object, oneOf, Uuid, type View } from '../kind.ts';
import { FirewallRule, familiesOf, type PolicyDefaults, type PolicyEnd, type PolicyRule } from './firewallPolicy.ts';
import { inForce } from './firewallRows.ts';
import { type Family, familyOfAddress, liesIn } from './ipAddress.ts';
import { contradictionsOf, familyOf, type Rule, SecurityRule } from './securityGroup.ts';
import { byte, port } from './transport.ts';

export const PacketQuestion = object({
  direction: { ...oneOf('in', 'out'), description: 'Into the interface, or out of it' },
  protocol: { ...oneOf('tcp', 'udp', 'icmp', 'icmpv6', 'other'), description: 'Of IPv4, or of IPv6' },
  address: Type.String({ format: 'ip', description: 'Where it comes from, or goes to; says of which family it is' }),
  port: Type.Optional({ ...port, description: 'Of tcp and udp, where it is needed: to which port it goes' }),
  icmpType: Type.Optional({ ...byte, description: 'Of icmp and icmpv6; an echo request when not given' }),
  icmpCode: Type.Optional({ ...byte, description: '0 when not given' }),
});

export interface Packet {
  direction: 'in' | 'out';
  protocol: 'tcp' | 'udp' | 'icmp' | 'icmpv6' | 'other';
  address: string;
  port?: number;
  icmpType?: number;
  icmpCode?: number;
}

export const allowedTraffic: View = {
  summary: 'Whether the first packet of a connection passes it, and which rules decide that',
  parameters: PacketQuestion.properties,
  needed: PacketQuestion.required,
  answer: object({
    allowed: Type.Boolean(),
    decidedBy: {
      ...oneOf(
        'rule',
        'noRule',
        'outboundOpen',
        'addressRequest',
        'discovery',
        'portSecurity',
        'firewallRule',
        'firewallDefault',
      ),
      description:
        'firewallRule, firewallDefault: the firewall policy of its network does not let it pass; see `firewall`. rule: those in `rules` let it pass. noRule: none does. outboundOpen: no group has a rule for outbound traffic. addressRequest, discovery: asking for an address, and neighbours for theirs, always passes. portSecurity: the interface has no address of that family',
    },
    reason: Type.String({ description: 'The same in words' }),
    firewall: Type.Union(
      [
        object({
          firewallPolicyId: Uuid,
          action: oneOf('allow', 'deny', 'reject'),
          index: Type.Union([Type.Integer({ minimum: 0 }), Type.Null()]),
          rule: Type.Union([FirewallRule, Type.Null()]),
        }),
        Type.Null(),
      ],
      {
        description:
          'What the firewall policy of its network says, and the rule that says so with its place in the policy, or null for the default; null where no policy is asked',
      },
    ),
    rules: Type.Array(object({ securityGroupId: Uuid, index: Type.Integer({ minimum: 0 }), rule: SecurityRule }), {
      description:
        'Those that let it pass, each with its place in its group; or, of noRule outbound, those that close it',
    }),
  }),
};

/** What is known of an interface, beside its groups. */
export interface Carrier {
  /** Of the addresses that it has. */
  families: readonly Family[];
  portSecurity: boolean;
  groups: readonly { id: string; rules: readonly Rule[] }[];
  /** The networks of address groups that rules name, by their ids. */
  entries: ReadonlyMap<string, readonly string[]>;
  /** Those of the security groups that rules name of which some interface has the packet's address. */
  membersAt: ReadonlySet<string>;
  /** Its own address, as a firewall policy sees it. */
  address: string | null;
  policy: { id: string; rules: readonly PolicyRule[]; defaults: PolicyDefaults } | null;
}

type Decision =
  | 'rule'
  | 'noRule'
  | 'outboundOpen'
  | 'addressRequest'
  | 'discovery'
  | 'portSecurity'
  | 'firewallRule'
  | 'firewallDefault';
export interface Firewall {
  firewallPolicyId: string;
  action: PolicyRule['action'];
  index: number | null;
  rule: PolicyRule | null;
}
export interface Verdict {
  allowed: boolean;
  decidedBy: Decision;
  reason: string;
  firewall: Firewall | null;
  rules: { securityGroupId: string; index: number; rule: Rule }[];
}

function fits(rule: Rule, packet: Packet, { entries, membersAt }: Carrier): boolean {
  if (rule.enabled === false || rule.direction !== packet.direction || contradictionsOf(rule).length > 0) return false;
  if (familyOf(rule) !== familyOfAddress(packet.address)) return false;
  if (rule.protocol !== 'any' && rule.protocol !== packet.protocol) return false;
  if (rule.fromPort !== undefined) {
    const port = packet.port ?? 0;
    if (port < rule.fromPort || port > (rule.toPort ?? rule.fromPort)) return false;
  }
  if (rule.icmpType !== undefined && rule.icmpType !== packet.icmpType) return false;
  if (rule.icmpCode !== undefined && rule.icmpCode !== packet.icmpCode) return false;
  if (rule.remoteCidr !== undefined && !liesIn(packet.address, rule.remoteCidr)) return false;
  if (rule.remoteAddressGroupId !== undefined)
    return (entries.get(rule.remoteAddressGroupId) ?? []).some((network) => liesIn(packet.address, network));
  return rule.remoteSecurityGroupId === undefined || membersAt.has(rule.remoteSecurityGroupId);
}

/** The first rule of its policy that the packet fits decides; without one, the default. */
function asked(carrier: Carrier, packet: Packet): Firewall | null {
  const { policy, entries, address } = carrier;
  if (!policy) return null;
  const { direction, protocol, port = 0 } = packet;
  const family = familyOfAddress(packet.address);
  const [from, to] = direction === 'in' ? [packet.address, address] : [address, packet.address];
  const liesAt = (end: PolicyEnd | undefined, at: string | null): boolean => {
    const networks =
      end?.cidr !== undefined ? [end.cidr] : end?.addressGroupId !== undefined ? entries.get(end.addressGroupId) : null;
    return networks === null || (at !== null && (networks ?? []).some((network) => liesIn(at, network)));
  };
  const decides = inForce(policy.rules, direction).find(
    ({ rule }) =>
      familiesOf(rule).includes(family) &&
      (rule.protocol === 'any' || rule.protocol === protocol) &&
      (rule.fromPort === undefined || (port >= rule.fromPort && port <= (rule.toPort ?? rule.fromPort))) &&
      (rule.icmpType === undefined || rule.icmpType === packet.icmpType) &&
      (rule.icmpCode === undefined || rule.icmpCode === packet.icmpCode) &&
      liesAt(rule.source, from) &&
      liesAt(rule.destination, to),
  );
  return decides
    ? { firewallPolicyId: policy.id, action: decides.rule.action, index: decides.index, rule: decides.rule }
    : { firewallPolicyId: policy.id, action: policy.defaults[direction], index: null, rule: null };
}

/** What hosts ask routers and neighbours, and answer them (RFC 4861), and of groups of receivers (RFC 2710, RFC 3810); OVN lets it pass. */
const discovery = new Set([130, 131, 132, 133, 134, 135, 136, 143]);

const isAddressRequest = ({ direction, protocol, port, address }: Packet): boolean =>
  direction === 'out' &&
  protocol === 'udp' &&
  ((port === 67 && address === '255.255.255.255') || (port === 547 && address === 'ff02::1:2'));

/** ICMP of which no type is said is an echo request. */
function told(packet: Packet): Packet {
  if (packet.protocol !== 'icmp' && packet.protocol !== 'icmpv6') return packet;
  return {
    ...packet,
    icmpType: packet.icmpType ?? (packet.protocol === 'icmp' ? 8 : 128),
    icmpCode: packet.icmpCode ?? 0,
  };
}

/** Of the first packet of a connection: the answer to what was allowed passes by itself. */
export function decide(carrier: Carrier, question: Packet): Verdict {
  const packet = told(question);
  let firewall: Firewall | null = null;
  const { direction } = packet;
  const family = familyOfAddress(packet.address);
  const verdict = (allowed: boolean, decidedBy: Decision, reason: string, rules: Verdict['rules'] = []): Verdict => ({
    allowed,
    decidedBy,
    reason,
    firewall,
    rules,
  });
  if (carrier.portSecurity && !carrier.families.includes(family))
    return verdict(
      false,
      'portSecurity',
      `the interface has no IPv${family} address, and its network has port security`,
    );
  if (packet.protocol === 'icmpv6' && discovery.has(packet.icmpType ?? -1))
    return verdict(true, 'discovery', 'neighbour and router discovery always pass');
  if (!isAddressRequest(packet)) firewall = asked(carrier, packet);
  if (firewall && firewall.action !== 'allow') {
    const does = firewall.action === 'deny' ? 'denies' : 'rejects';
    return firewall.rule
      ? verdict(false, 'firewallRule', `rule ${firewall.rule.priority} of the network's firewall policy ${does} it`)
      : verdict(
          false,
          'firewallDefault',
          `no rule of the network's firewall policy allows it, and its default ${does} it`,
        );
  }
  const all = carrier.groups.flatMap(({ id, rules }) =>
    rules.map((rule, index) => ({ securityGroupId: id, index, rule })),
  );
  const opening = all.filter(({ rule }) => fits(rule, packet, carrier));
  if (opening.length > 0) return verdict(true, 'rule', `${count(opening.length)} it pass`, opening);
  if (direction === 'in') {
    const reason =
      carrier.groups.length > 0
        ? 'no rule of its security groups lets it in'
        : 'the interface carries no security group';
    return verdict(false, 'noRule', reason);
  }
  const closing = all.filter(({ rule }) => rule.direction === 'out');
  if (closing.length === 0)
    return verdict(true, 'outboundOpen', 'none of its security groups has a rule for outbound traffic');
  if (isAddressRequest(packet)) return verdict(true, 'addressRequest', 'asking for an address is always possible');
  return verdict(false, 'noRule', 'there are rules for outbound traffic, and none of them lets it out', closing);
}

const count = (rules: number): string => (rules === 1 ? 'one rule lets' : `${rules} rules let`);
