/**
 * What security groups let through: an oracle written from docs/api.md alone, compared with what the rows written to OVN mean by
 * ovn-nb(5) and ovn-sb(5).
 */
import { describe, expect, test } from 'vitest';
import { meant } from '../../../acceptance/network/securityGroup.ts';
import { checkAction, checkCreate } from '../../../acceptance/validate.ts';
import { addressSetName } from '../../../activities/network/addressGroup.ts';
import { networkAcls } from '../../../activities/network/network.ts';
import { type Acl, aclsOf, securityGroupName } from '../../../activities/network/securityGroup.ts';
import { kinds } from '../../../model/kinds.ts';
import type { Family } from '../../../model/network/ipAddress.ts';
import type { Rule } from '../../../model/network/securityGroup.ts';
import { type Carrier, decide } from '../../../model/network/traffic.ts';
import { Problem } from '../../../runtime/problem.ts';
import { randomFrom } from '../../support/random.ts';

interface Packet {
  direction: 'in' | 'out';
  family: 4 | 6;
  protocol: 'tcp' | 'udp' | 'icmp' | 'icmpv6' | 'other';
  fromPort?: number;
  toPort?: number;
  icmpType?: number;
  icmpCode?: number;
  source: string;
  destination: string;
}

/** Address groups, by their ids: what they hold at the time. */
const addressGroups: Record<string, { family: Family; entries: readonly string[] }> = {
  'a0000000-0000-4000-8000-000000000001': { family: 4, entries: ['10.0.0.4/32', '192.168.0.0/16'] },
  'a0000000-0000-4000-8000-000000000002': { family: 4, entries: [] },
  'a0000000-0000-4000-8000-000000000003': { family: 6, entries: ['fd00::4/128', 'fd01::/16'] },
};
const [several = '', none = '', several6 = ''] = Object.keys(addressGroups);
/** Security groups that rules name, by their ids: the addresses of those that carry them. */
const carriers: Record<string, readonly string[]> = {
  'b0000000-0000-4000-8000-000000000001': ['10.0.0.1', '10.0.0.5', 'fd00::5'],
  'b0000000-0000-4000-8000-000000000002': [],
};
const [peers = '', nobody = ''] = Object.keys(carriers);
const isOf = (family: number) => (address: string) => address.includes(':') === (family === 6);
/** OVN makes the sets of a port group by itself, one for each family. */
const addressSets = new Map<string, readonly string[]>([
  ...Object.entries(addressGroups).map(([id, { family, entries }]) => [addressSetName(id, family), entries] as const),
  ...Object.entries(carriers).flatMap(([id, addresses]) =>
    [4, 6].map((family) => [`${securityGroupName(id)}_ip${family}`, addresses.filter(isOf(family))] as const),
  ),
]);
const familyOfGroup = (id: string): Family | undefined => addressGroups[id]?.family;

const widthOf = (address: string): number => (address.includes(':') ? 128 : 32);
/** Of IPv6 those that are written here: a first group, and a last. */
function bits(address: string): bigint {
  if (!address.includes(':')) return address.split('.').reduce((sum, part) => sum * 256n + BigInt(part), 0n);
  const [head = '', tail = ''] = address.split('::');
  const groups = (part: string): bigint =>
    part.split(':').reduce((sum, group) => (sum << 16n) + BigInt(`0x${group || '0'}`), 0n);
  return (groups(head) << BigInt(128 - 16 * head.split(':').length)) + groups(tail);
}
function within(address: string, network: string): boolean {
  const [base = '', length = String(widthOf(network))] = network.split('/');
  if (widthOf(address) !== widthOf(base)) return false;
  const shift = BigInt(widthOf(base) - Number(length));
  return bits(address) >> shift === bits(base) >> shift;
}

/** Solicitations and advertisements of routers and neighbours, and what receivers of multicast say. */
const discovery = [130, 131, 132, 133, 134, 135, 136, 143];

/** docs/api.md, "Security groups", of the first packet of a connection. */
function documented(groups: readonly (readonly Rule[])[], packet: Packet): boolean {
  if (packet.protocol === 'icmpv6' && discovery.includes(packet.icmpType ?? -1)) return true;
  const rules = groups.flat().filter(({ direction }) => direction === packet.direction);
  if (packet.direction === 'out') {
    if (rules.length === 0) return true;
    if (packet.protocol === 'udp' && packet.fromPort === 68 && packet.toPort === 67) {
      if (packet.destination === '255.255.255.255') return true;
    }
    if (packet.protocol === 'udp' && packet.fromPort === 546 && packet.toPort === 547) {
      if (packet.destination === 'ff02::1:2') return true;
    }
  }
  return rules.some((rule) => {
    if (rule.enabled === false) return false;
    const ofGroup = familyOfGroup(rule.remoteAddressGroupId ?? '');
    const ofCidr = rule.remoteCidr && (rule.remoteCidr.includes(':') ? 6 : 4);
    const ofProtocol = { icmp: 4, icmpv6: 6, any: null, tcp: null, udp: null }[rule.protocol];
    if ((rule.family ?? ofProtocol ?? (ofCidr || (ofGroup ?? 4))) !== packet.family) return false;
    if (rule.protocol !== 'any' && rule.protocol !== packet.protocol) return false;
    const remote = packet.direction === 'in' ? packet.source : packet.destination;
    if (rule.remoteCidr && !within(remote, rule.remoteCidr)) return false;
    const group = rule.remoteAddressGroupId;
    if (group && !addressGroups[group]?.entries.some((network) => within(remote, network))) return false;
    const others = rule.remoteSecurityGroupId;
    if (others && !carriers[others]?.includes(remote)) return false;
    if (rule.fromPort !== undefined) {
      const port = packet.toPort ?? -1;
      if (port < rule.fromPort || port > (rule.toPort ?? rule.fromPort)) return false;
    }
    if (rule.icmpType !== undefined && rule.icmpType !== packet.icmpType) return false;
    return rule.icmpCode === undefined || rule.icmpCode === packet.icmpCode;
  });
}

/** One comparison or predicate of OVN's expression language; those with which rules are written. */
function holds(term: string, packet: Packet, groups: ReadonlySet<string>): boolean {
  const group = /^(inport|outport) == @(\w+)$/.exec(term);
  if (group) return (group[1] === 'outport') === (packet.direction === 'in') && groups.has(group[2] ?? '');
  const four = packet.family === 4;
  const predicates: Record<string, boolean> = {
    ip: true,
    ip4: four,
    ip6: !four,
    icmp4: four && packet.protocol === 'icmp',
    icmp6: !four && packet.protocol === 'icmpv6',
    tcp: packet.protocol === 'tcp',
    udp: packet.protocol === 'udp',
  };
  const predicate = predicates[term];
  if (predicate !== undefined) return predicate;
  const [, field = '', operator = '', value = ''] = /^([\w.]+) (==|<=|>=) (\S+)$/.exec(term) ?? [];
  // A field's own prerequisites hold with it: tcp.dst is a field of tcp only.
  const ofIp = /^ip([46])\.(src|dst)$/.exec(field);
  if (ofIp) {
    const address = ofIp[2] === 'src' ? packet.source : packet.destination;
    const networks = value.startsWith('$') ? addressSets.get(value.slice(1)) : [value];
    if (!networks) throw new Error(`OVN knows no such address set: ${term}`);
    return networks.some((network) => {
      const width = widthOf(network);
      if (!isOf(Number(ofIp[1]))(network)) throw new Error(`OVN refuses a constant of the other family: ${term}`);
      const [base = '', length = String(width)] = network.split('/');
      if (bits(base) % (1n << BigInt(width - Number(length))) !== 0n) throw new Error(`OVN refuses host bits: ${term}`);
      return packet.family === Number(ofIp[1]) && within(address, network);
    });
  }
  const fields: Record<string, [boolean, number | undefined]> = {
    'tcp.dst': [packet.protocol === 'tcp', packet.toPort],
    'udp.dst': [packet.protocol === 'udp', packet.toPort],
    'udp.src': [packet.protocol === 'udp', packet.fromPort],
    'icmp4.type': [four && packet.protocol === 'icmp', packet.icmpType],
    'icmp4.code': [four && packet.protocol === 'icmp', packet.icmpCode],
    'icmp6.type': [!four && packet.protocol === 'icmpv6', packet.icmpType],
    'icmp6.code': [!four && packet.protocol === 'icmpv6', packet.icmpCode],
  };
  const found = fields[field];
  if (!found) throw new Error(`not a term of the rules: ${term}`);
  const [exists, own = Number.NaN] = found;
  const wanted = Number(value);
  return exists && (operator === '==' ? own === wanted : operator === '<=' ? own <= wanted : own >= wanted);
}

/**
 * ovn-nb(5), table ACL: of those that match, the highest priority decides; without one the packet passes. And ovn-northd(8), "ACLs": discovery is
 * allowed regardless of them.
 */
function passes(acls: readonly Acl[], packet: Packet, groups: ReadonlySet<string>): boolean {
  if (packet.protocol === 'icmpv6' && discovery.includes(packet.icmpType ?? -1)) return true;
  const direction = packet.direction === 'in' ? 'to-lport' : 'from-lport';
  const matching = acls.filter(
    (acl) => acl.direction === direction && acl.match.split(' && ').every((term) => holds(term, packet, groups)),
  );
  const highest = Math.max(...matching.map(({ priority }) => priority));
  const actions = new Set(matching.filter(({ priority }) => priority === highest).map(({ action }) => action));
  if (actions.has('drop') && actions.size > 1) throw new Error('which of two of one priority decides is not defined');
  return !actions.has('drop');
}

const onOvn = (groups: readonly (readonly Rule[])[], packet: Packet): boolean =>
  passes(
    [...Object.values(networkAcls('net')), ...groups.flatMap((rules, index) => aclsOf(`sg${index}`, rules))],
    packet,
    new Set(['net', ...groups.map((_, index) => `sg${index}`)]),
  );

/** What the view allowedTraffic says, of an interface with addresses of both families. A source port is nothing that it is asked. */
function told(groups: readonly (readonly Rule[])[], packet: Packet): boolean {
  const { direction, protocol, source, destination, toPort, icmpType, icmpCode } = packet;
  const address = direction === 'in' ? source : destination;
  const carrier: Carrier = {
    families: [4, 6],
    portSecurity: true,
    address: null,
    policy: null,
    groups: groups.map((rules, index) => ({ id: `sg${index}`, rules })),
    entries: new Map(Object.entries(addressGroups).map(([id, { entries }]) => [id, entries])),
    membersAt: new Set(Object.keys(carriers).filter((id) => carriers[id]?.includes(address))),
  };
  const asked = { direction, protocol, address, ...(toPort === undefined ? {} : { port: toPort }) };
  return decide(carrier, {
    ...asked,
    ...(icmpType === undefined ? {} : { icmpType }),
    ...(icmpCode === undefined ? {} : { icmpCode }),
  }).allowed;
}

const tcp = (direction: 'in' | 'out', toPort: number, more: Partial<Packet> = {}): Packet => ({
  direction,
  family: 4,
  protocol: 'tcp',
  fromPort: 40_000,
  toPort,
  source: '10.0.0.1',
  destination: '10.0.0.2',
  ...more,
});
const six = { family: 6, source: 'fd00::1', destination: 'fd00::2' } as const;
const icmp = (icmpType: number, icmpCode = 0): Packet => {
  const { fromPort: _, toPort: __, ...rest } = tcp('in', 0);
  return { ...rest, protocol: 'icmp', icmpType, icmpCode };
};

describe('what is accepted does exactly what is documented', () => {
  test.each<[string, Rule[], Packet, boolean]>([
    ['out tcp 443 alone: 443', [{ direction: 'out', protocol: 'tcp', fromPort: 443 }], tcp('out', 443), true],
    ['out tcp 443 alone: 22', [{ direction: 'out', protocol: 'tcp', fromPort: 443 }], tcp('out', 22), false],
    ['an in rule leaves outbound open', [{ direction: 'in', protocol: 'tcp', fromPort: 443 }], tcp('out', 22), true],
    ['icmp type 8: echo', [{ direction: 'in', protocol: 'icmp', icmpType: 8 }], icmp(8), true],
    ['icmp type 8: a redirect', [{ direction: 'in', protocol: 'icmp', icmpType: 8 }], icmp(5, 1), false],
    ['icmp 3/4: 3/1', [{ direction: 'in', protocol: 'icmp', icmpType: 3, icmpCode: 4 }], icmp(3, 1), false],
    ['fromPort alone: it', [{ direction: 'in', protocol: 'tcp', fromPort: 80 }], tcp('in', 80), true],
    ['fromPort alone: the next', [{ direction: 'in', protocol: 'tcp', fromPort: 80 }], tcp('in', 81), false],
    ['any, from one network', [{ direction: 'in', protocol: 'any', remoteCidr: '10.0.0.0/31' }], tcp('in', 1), true],
    [
      'any, from another network',
      [{ direction: 'in', protocol: 'any', remoteCidr: '10.0.1.0/24' }],
      tcp('in', 1),
      false,
    ],
    ['any, from a group', [{ direction: 'in', protocol: 'any', remoteAddressGroupId: several }], tcp('in', 1), false],
    [
      'any, from what is in a group',
      [{ direction: 'in', protocol: 'any', remoteAddressGroupId: several }],
      tcp('in', 1, { source: '192.168.1.7' }),
      true,
    ],
    [
      'any, to what is in a group',
      [{ direction: 'out', protocol: 'any', remoteAddressGroupId: several }],
      tcp('out', 1, { destination: '10.0.0.4' }),
      true,
    ],
    [
      'any, from an empty group',
      [{ direction: 'in', protocol: 'any', remoteAddressGroupId: none }],
      tcp('in', 1),
      false,
    ],
    ['IPv6 comes in by no rule for IPv4', [{ direction: 'in', protocol: 'any' }], tcp('in', 1, six), false],
    ['IPv6 comes in by a rule for it', [{ direction: 'in', family: 6, protocol: 'any' }], tcp('in', 1, six), true],
    ['IPv4 does not come in by that', [{ direction: 'in', family: 6, protocol: 'any' }], tcp('in', 1), false],
    ['IPv6 goes out by no rule for IPv4', [{ direction: 'out', protocol: 'any' }], tcp('out', 1, six), false],
    ['IPv6 goes out where all is open', [], tcp('out', 1, six), true],
    [
      'from a network of IPv6',
      [{ direction: 'in', protocol: 'tcp', fromPort: 22, remoteCidr: 'fd00::/8' }],
      tcp('in', 22, six),
      true,
    ],
    [
      'from a group of IPv6',
      [{ direction: 'in', protocol: 'any', remoteAddressGroupId: several6 }],
      tcp('in', 22, { ...six, source: 'fd01::1' }),
      true,
    ],
    [
      'from one that carries a group',
      [{ direction: 'in', protocol: 'any', remoteSecurityGroupId: peers }],
      tcp('in', 1),
      true,
    ],
    [
      'from one that does not',
      [{ direction: 'in', protocol: 'any', remoteSecurityGroupId: peers }],
      tcp('in', 1, { source: '10.0.0.4' }),
      false,
    ],
    [
      'from one that carries a group, by IPv6',
      [{ direction: 'in', family: 6, protocol: 'any', remoteSecurityGroupId: peers }],
      tcp('in', 1, { ...six, source: 'fd00::5' }),
      true,
    ],
    ['a rule that is not enabled', [{ direction: 'in', protocol: 'any', enabled: false }], tcp('in', 1), false],
    [
      'a rule for outbound that is not enabled closes',
      [{ direction: 'out', protocol: 'any', enabled: false }],
      tcp('out', 1),
      false,
    ],
    [
      'neighbours are discovered though all is closed',
      [{ direction: 'out', protocol: 'icmp' }],
      { ...icmp(135), ...six, protocol: 'icmpv6', direction: 'out' },
      true,
    ],
    [
      'an address of IPv6 is asked for though outbound is closed',
      [{ direction: 'out', protocol: 'tcp', fromPort: 443 }],
      tcp('out', 547, { ...six, protocol: 'udp', fromPort: 546, destination: 'ff02::1:2' }),
      true,
    ],
    [
      'an address is asked for though outbound is closed',
      [{ direction: 'out', protocol: 'tcp', fromPort: 443 }],
      tcp('out', 67, { protocol: 'udp', fromPort: 68, destination: '255.255.255.255' }),
      true,
    ],
  ])('%s', (_, rules, packet, expected) => {
    expect(documented([rules], packet)).toBe(expected);
    const kept = [meant(rules, familyOfGroup)];
    expect(onOvn(kept, packet)).toBe(expected);
    expect(told(kept, packet)).toBe(expected);
  });

  test('for any rules of any groups, and packets at their edges', () => {
    const draw = randomFrom(8);
    const random = (below: number): number => Math.floor(draw() * below);
    const pick = <T>(...values: readonly [T, ...T[]]): T => values[random(values.length)] ?? values[0];
    const networks = {
      4: ['0.0.0.0/0', '10.0.0.0/8', '10.0.0.0/30', '10.0.0.4/32', '192.168.1.0/24'],
      6: ['::/0', 'fd00::/8', 'fd00::/126', 'fd00::4/128', 'fd01::/16'],
    } as const;
    const addresses = {
      4: ['10.0.0.1', '10.0.0.4', '10.0.0.5', '10.255.255.255', '11.0.0.0', '192.168.1.7'],
      6: ['fd00::1', 'fd00::4', 'fd00::5', 'fd01::7', 'fe80::1', 'ff02::1:2'],
    } as const;
    const portNumbers = [1, 21, 22, 23, 67, 68, 442, 443, 444, 547, 65_535] as const;
    const rule = (): Rule => {
      const protocol = pick<Rule['protocol']>('any', 'tcp', 'udp', 'icmp', 'icmpv6');
      const family = protocol === 'icmp' ? 4 : protocol === 'icmpv6' ? 6 : pick<Family>(4, 6);
      const made: Rule = { direction: pick('in', 'out'), protocol };
      const remote = random(6);
      if (remote < 2) made.remoteCidr = pick<string>(...(networks[family] as readonly [string, ...string[]]));
      if (remote === 2) made.remoteAddressGroupId = family === 6 ? several6 : pick(several, several, none);
      if (remote === 3) made.remoteSecurityGroupId = pick(peers, peers, nobody);
      // Where it follows from the rest it may be left out.
      if (remote > 2 || random(2) === 0) made.family = family;
      if (random(5) === 0) made.enabled = random(2) === 0;
      if ((protocol === 'tcp' || protocol === 'udp') && random(3) > 0) {
        const [low, high] = [pick(...portNumbers), pick(...portNumbers)].sort((a, b) => a - b) as [number, number];
        made.fromPort = low;
        if (random(2) === 0) made.toPort = high;
      }
      if ((protocol === 'icmp' || protocol === 'icmpv6') && random(3) > 0) {
        made.icmpType = pick(0, 3, 8, 128, 135, 255);
        if (random(2) === 0) made.icmpCode = pick(0, 1, 4, 255);
      }
      return made;
    };
    const packet = (): Packet => {
      const family = pick<Family>(4, 6);
      const protocol = pick<Packet['protocol']>('tcp', 'udp', family === 4 ? 'icmp' : 'icmpv6', 'other');
      const toPort = pick(...portNumbers);
      const asks = toPort === 67 ? 68 : toPort === 547 ? 546 : 40_000;
      return {
        direction: pick('in', 'out'),
        family,
        protocol,
        ...(protocol === 'tcp' || protocol === 'udp' ? { fromPort: asks, toPort } : {}),
        ...(protocol.startsWith('icmp')
          ? { icmpType: pick(0, 3, 5, 8, 128, 135, 255), icmpCode: pick(0, 1, 4, 255) }
          : {}),
        source: pick<string>(...(addresses[family] as readonly [string, ...string[]])),
        destination: family === 4 ? pick<string>('255.255.255.255', ...addresses[4]) : pick<string>(...addresses[6]),
      };
    };
    const seen = { passed: 0, dropped: 0 };
    for (let run = 0; run < 4000; run++) {
      const groups = Array.from({ length: random(4) }, () => Array.from({ length: random(4) }, rule));
      const kept = groups.map((rules) => meant(rules, familyOfGroup));
      for (let tries = 0; tries < 8; tries++) {
        const one = packet();
        const expected = documented(groups, one);
        if (onOvn(kept, one) !== expected)
          expect.fail(`${expected} by the documentation: ${JSON.stringify({ groups, packet: one })}`);
        if (told(kept, one) !== expected)
          expect.fail(`${expected} by the documentation, and not told: ${JSON.stringify({ groups, packet: one })}`);
        seen[expected ? 'passed' : 'dropped'] += 1;
      }
    }
    expect(Math.min(seen.passed, seen.dropped)).toBeGreaterThan(5000);
  });
});

describe('what can not be meant is refused with its field', () => {
  const zoneId = '11111111-1111-4111-8111-111111111111';
  const refusalOf = (act: () => unknown): Problem => {
    try {
      act();
    } catch (error) {
      if (error instanceof Problem) return error;
      throw error;
    }
    throw new Error('it was accepted');
  };
  const cases: [string, Record<string, unknown>, string][] = [
    ['any with ports', { protocol: 'any', fromPort: 22, toPort: 22 }, 'fromPort'],
    ['any with one port', { protocol: 'any', toPort: 22 }, 'toPort'],
    ['icmp with ports', { protocol: 'icmp', fromPort: 8, toPort: 8 }, 'fromPort'],
    ['tcp with a type', { protocol: 'tcp', icmpType: 8 }, 'icmpType'],
    ['any with a code', { protocol: 'any', icmpCode: 0 }, 'icmpCode'],
    ['a code without its type', { protocol: 'icmp', icmpCode: 0 }, 'icmpCode'],
    ['a type that does not exist', { protocol: 'icmp', icmpType: 256 }, 'icmpType'],
    ['a range upside down', { protocol: 'tcp', fromPort: 443, toPort: 80 }, 'toPort'],
    ['an end without a beginning', { protocol: 'udp', toPort: 80 }, 'toPort'],
    ['port 0', { protocol: 'tcp', fromPort: 0 }, 'fromPort'],
    ['port 65536', { protocol: 'tcp', fromPort: 1, toPort: 65_536 }, 'toPort'],
    ['host bits', { protocol: 'tcp', remoteCidr: '10.0.0.5/24' }, 'remoteCidr'],
    ['leading zeros', { protocol: 'tcp', remoteCidr: '10.01.0.0/16' }, 'remoteCidr'],
    ['a leading zero of the length', { protocol: 'tcp', remoteCidr: '10.0.0.0/08' }, 'remoteCidr'],
    ['an address without a length', { protocol: 'tcp', remoteCidr: '10.0.0.0' }, 'remoteCidr'],
    ['IPv6 in a rule for IPv4', { family: 4, protocol: 'tcp', remoteCidr: '::/0' }, 'remoteCidr'],
    ['IPv4 in a rule for IPv6', { family: 6, protocol: 'tcp', remoteCidr: '10.0.0.0/8' }, 'remoteCidr'],
    ['IPv6 with ICMP', { protocol: 'icmp', remoteCidr: '::/0' }, 'remoteCidr'],
    ['IPv4 with ICMPv6', { protocol: 'icmpv6', remoteCidr: '10.0.0.0/8' }, 'remoteCidr'],
    ['ICMP of IPv6', { family: 6, protocol: 'icmp' }, 'protocol'],
    ['ICMPv6 of IPv4', { family: 4, protocol: 'icmpv6' }, 'protocol'],
    ['another family', { family: 5, protocol: 'any' }, 'family'],
    ['host bits of IPv6', { protocol: 'tcp', remoteCidr: 'fd00::1/64' }, 'remoteCidr'],
    ['icmpv6 with ports', { protocol: 'icmpv6', fromPort: 8 }, 'fromPort'],
    [
      'two groups',
      { protocol: 'any', remoteAddressGroupId: several, remoteSecurityGroupId: peers },
      'remoteSecurityGroupId',
    ],
    [
      'a network and a security group',
      { protocol: 'any', remoteCidr: '::/0', remoteSecurityGroupId: peers },
      'remoteSecurityGroupId',
    ],
    ['enabled by a word', { protocol: 'any', enabled: 'yes' }, 'enabled'],
    ['a prefix of 33', { protocol: 'tcp', remoteCidr: '10.0.0.0/33' }, 'remoteCidr'],
    [
      'a network and a group',
      { protocol: 'tcp', remoteCidr: '10.0.0.0/8', remoteAddressGroupId: several },
      'remoteAddressGroupId',
    ],
    ['the name of a group', { protocol: 'tcp', remoteAddressGroupId: 'offices' }, 'remoteAddressGroupId'],
  ];
  for (const direction of ['in', 'out'])
    test.each(cases)(`${direction}: %s`, (_, rule, field) => {
      const body = {
        rules: [
          { direction: 'in', protocol: 'any' },
          { direction, ...rule },
        ],
      };
      const created = refusalOf(() => {
        const input = checkCreate(kinds.securityGroup as never, { name: 'web', zoneId, ...body });
        meant(input.rules as Rule[]);
      });
      const set = refusalOf(() => meant(checkAction(kinds.securityGroup as never, 'setRules', body).rules as Rule[]));
      for (const problem of [created, set]) {
        expect(problem.code).toBe('INVALID_ARGUMENT');
        const violations = problem.details.violations ?? [];
        expect(violations.map((violation) => violation.field)).toContain(`rules.1.${field}`);
        for (const { message } of violations) expect(message).not.toMatch(/[\\^$]|NOT|match/);
      }
    });

  test('a stored rule that contradicts itself opens nothing', () => {
    const old: Rule[] = [
      { direction: 'in', protocol: 'any', fromPort: 22, toPort: 22 },
      { direction: 'in', protocol: 'icmp', fromPort: 8, toPort: 8 },
      { direction: 'in', protocol: 'tcp', remoteCidr: '10.0.0.5/24' },
    ];
    expect(aclsOf('sg', old)).toEqual([]);
  });
});
