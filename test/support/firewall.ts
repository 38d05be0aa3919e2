/** Firewall policies that are drawn at random, and what docs/network.md says of packets there ("Firewall policies"): nothing here knows of OVN. */
import type { PolicyDefaults, PolicyRule } from '../../model/network/firewallPolicy.ts';

export interface PolicyPacket {
  direction: 'in' | 'out';
  family: 4 | 6;
  protocol: 'tcp' | 'udp' | 'icmp' | 'icmpv6' | 'other';
  /** Of `other`, the number of its protocol. */
  number?: number;
  sourcePort?: number;
  port?: number;
  icmpType?: number;
  icmpCode?: number;
  source: string;
  destination: string;
}

export interface PolicyUnderTest {
  rules: PolicyRule[];
  defaults: PolicyDefaults;
}

/** Networks of address groups, by their ids. */
export type Groups = Readonly<Record<string, readonly string[]>>;

function groupsOfSix(address: string): number[] {
  const [head = '', tail] = address.split('::');
  const parts = (text: string): number[] => (text ? text.split(':').map((part) => Number.parseInt(part, 16)) : []);
  const [before, after] = [parts(head), parts(tail ?? '')];
  return tail === undefined
    ? before
    : [...before, ...Array<number>(8 - before.length - after.length).fill(0), ...after];
}

/** An address as a text of zeros and ones. */
const bits = (address: string): string =>
  address.includes(':')
    ? groupsOfSix(address)
        .map((part) => part.toString(2).padStart(16, '0'))
        .join('')
    : address
        .split('.')
        .map((part) => Number(part).toString(2).padStart(8, '0'))
        .join('');

export function isWithin(address: string, network: string): boolean {
  const [base = '', length = ''] = network.split('/');
  if (base.includes(':') !== address.includes(':')) return false;
  return bits(address).startsWith(bits(base).slice(0, Number(length || 128)));
}

function isAt(address: string, end: PolicyRule['source'], groups: Groups): boolean {
  if (end?.cidr !== undefined) return isWithin(address, end.cidr);
  if (end?.addressGroupId !== undefined)
    return (groups[end.addressGroupId] ?? []).some((network) => isWithin(address, network));
  return true;
}

function isFor(rule: PolicyRule, packet: PolicyPacket): boolean {
  if (rule.family !== undefined) return rule.family === packet.family;
  if (rule.protocol === 'icmp') return packet.family === 4;
  return rule.protocol !== 'icmpv6' || packet.family === 6;
}

function fits(rule: PolicyRule, packet: PolicyPacket, groups: Groups): boolean {
  return (
    isFor(rule, packet) &&
    (rule.protocol === 'any' || rule.protocol === packet.protocol) &&
    (rule.fromPort === undefined ||
      (Number(packet.port) >= rule.fromPort && Number(packet.port) <= (rule.toPort ?? rule.fromPort))) &&
    (rule.icmpType === undefined || rule.icmpType === packet.icmpType) &&
    (rule.icmpCode === undefined || rule.icmpCode === packet.icmpCode) &&
    isAt(packet.source, rule.source, groups) &&
    isAt(packet.destination, rule.destination, groups)
  );
}

/** How neighbours and routers find each other, and receivers of multicast are found: always passes. */
const discovery = [130, 131, 132, 133, 134, 135, 136, 143];

/** What the policy says of the first packet of a connection. */
export function said({ rules, defaults }: PolicyUnderTest, packet: PolicyPacket, groups: Groups): string {
  const { direction, protocol, family, port, sourcePort, destination } = packet;
  if (protocol === 'icmpv6' && discovery.includes(packet.icmpType ?? -1)) return 'allow';
  if (direction === 'out' && protocol === 'udp' && sourcePort === 68 && port === 67)
    if (family === 4 && destination === '255.255.255.255') return 'allow';
  if (direction === 'out' && protocol === 'udp' && sourcePort === 546 && port === 547)
    if (family === 6 && destination === 'ff02::1:2') return 'allow';
  let first: PolicyRule | undefined;
  for (const rule of rules) {
    if (rule.enabled === false || rule.direction !== direction || !fits(rule, packet, groups)) continue;
    if (!first || rule.priority < first.priority) first = rule;
  }
  return first?.action ?? defaults[direction];
}

export interface Drawing {
  random(below: number): number;
  /** Networks that rules name, and ids of address groups, by their family. */
  networks: Record<4 | 6, readonly string[]>;
  groupIds: Record<4 | 6, readonly string[]>;
}

export function drawPolicy({ random, networks, groupIds }: Drawing, rulesMax = 8): PolicyUnderTest {
  const pick = <T>(...values: readonly T[]): T => values[random(values.length)] as T;
  const end = (family: 4 | 6): { source?: PolicyRule['source'] } => {
    const kind = random(5);
    if (kind < 2) return { source: { cidr: pick(...networks[family]) } };
    return kind === 2 && groupIds[family].length > 0 ? { source: { addressGroupId: pick(...groupIds[family]) } } : {};
  };
  const priorities = Array.from({ length: 40 }, (_, index) => index * 7 + 1).sort(() => random(3) - 1);
  const rules = Array.from({ length: random(rulesMax + 1) }, (_, index): PolicyRule => {
    const protocol = pick<PolicyRule['protocol']>('any', 'any', 'tcp', 'tcp', 'udp', 'icmp', 'icmpv6');
    const family = protocol === 'icmp' ? 4 : protocol === 'icmpv6' ? 6 : pick<4 | 6>(4, 4, 6);
    const made: PolicyRule = {
      priority: priorities[index] ?? 1000 + index,
      direction: pick('in', 'in', 'out'),
      action: pick('allow', 'allow', 'deny', 'reject'),
      protocol,
    };
    const { source } = end(family);
    const { source: destination } = end(family);
    if (source) made.source = source;
    if (destination) made.destination = destination;
    if (source || destination || random(2) === 0) made.family = family;
    if ((protocol === 'tcp' || protocol === 'udp') && random(4) > 0) {
      made.fromPort = pick(22, 53, 80, 443);
      if (random(2) === 0) made.toPort = pick(443, 444, 65_535);
    }
    if (protocol.startsWith('icmp') && random(2) === 0) {
      made.icmpType = protocol === 'icmp' ? pick(3, 8) : pick(1, 128);
      if (random(2) === 0) made.icmpCode = pick(0, 1);
    }
    if (random(8) === 0) made.enabled = false;
    return made;
  });
  return { rules, defaults: { in: pick('deny', 'allow'), out: pick('deny', 'allow', 'allow') } };
}

export function drawPacket(
  random: Drawing['random'],
  addresses: Record<4 | 6, readonly string[]>,
  family: 4 | 6 = random(3) === 0 ? 6 : 4,
): PolicyPacket {
  const pick = <T>(...values: readonly T[]): T => values[random(values.length)] as T;
  const protocol = pick<PolicyPacket['protocol']>('tcp', 'tcp', 'udp', family === 4 ? 'icmp' : 'icmpv6', 'other');
  const isTransport = protocol === 'tcp' || protocol === 'udp';
  return {
    direction: pick('in', 'out'),
    family,
    protocol,
    ...(isTransport ? { sourcePort: 40_000, port: pick(21, 22, 53, 80, 81, 443, 444, 445, 65_535) } : {}),
    ...(protocol.startsWith('icmp')
      ? { icmpType: protocol === 'icmp' ? pick(3, 8, 13) : pick(1, 128, 129), icmpCode: pick(0, 1, 2) }
      : {}),
    ...(protocol === 'other' ? { number: pick(47, 132) } : {}),
    source: pick(...addresses[family]),
    destination: pick(...addresses[family]),
  };
}
