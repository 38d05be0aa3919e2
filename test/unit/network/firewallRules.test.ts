/**
 * What firewall policies let pass: an oracle written from docs/network.md alone (`test/support/firewall.ts`), compared with what the rows written to
 * OVN mean by ovn-nb(5) and ovn-sb(5), together with those of security groups, and with what the view allowedTraffic tells.
 */
import { describe, expect, test } from 'vitest';
import { meantRules } from '../../../acceptance/network/firewallPolicy.ts';
import { checkAction, checkCreate } from '../../../acceptance/validate.ts';
import { networkAcls } from '../../../activities/network/network.ts';
import { aclsOf, priorities } from '../../../activities/network/securityGroup.ts';
import { kinds } from '../../../model/kinds.ts';
import type { PolicyDefaults, PolicyRule } from '../../../model/network/firewallPolicy.ts';
import { firewallPriorities, firewallRows, TooIntricate } from '../../../model/network/firewallRows.ts';
import type { Rule } from '../../../model/network/securityGroup.ts';
import { difference, intersection, networksOf, spanOf, union } from '../../../model/network/spans.ts';
import { decide } from '../../../model/network/traffic.ts';
import { Problem } from '../../../runtime/problem.ts';
import { drawPacket, drawPolicy, type Groups, isWithin, type PolicyPacket, said } from '../../support/firewall.ts';
import { randomFrom } from '../../support/random.ts';

const some = 'a0000000-0000-4000-8000-000000000001';
const none = 'a0000000-0000-4000-8000-000000000002';
const some6 = 'a0000000-0000-4000-8000-000000000003';
const groups: Groups = { [some]: ['10.0.0.4/32', '192.168.0.0/16'], [none]: [], [some6]: ['fd00::4/128', 'fd01::/16'] };
const entriesOf = (id: string): readonly string[] => groups[id] ?? [];

type Row = { direction: string; priority: number; match: string; action: string };

/** One comparison of OVN's expression language; of numbers, one number or a set of them. */
function holds(term: string, packet: PolicyPacket): boolean {
  const numbers: Record<string, number> = { tcp: 6, udp: 17, icmp: 1, icmpv6: 58, other: packet.number ?? 47 };
  const predicates: Record<string, boolean> = {
    ip: true,
    ip4: packet.family === 4,
    ip6: packet.family === 6,
    icmp4: packet.protocol === 'icmp',
    icmp6: packet.protocol === 'icmpv6',
    tcp: packet.protocol === 'tcp',
    udp: packet.protocol === 'udp',
  };
  const predicate = predicates[term];
  if (predicate !== undefined) return predicate;
  const port = /^(inport|outport) == @\w+$/.exec(term);
  if (port) return (port[1] === 'outport') === (packet.direction === 'in');
  const [, field = '', operator = '', value = ''] = /^([\w.]+) (==|<=|>=) (.+)$/.exec(term) ?? [];
  const values = value.startsWith('{') ? value.slice(1, -1).split(', ') : [value];
  const address = /^ip([46])\.(src|dst)$/.exec(field);
  if (address) {
    if (Number(address[1]) !== packet.family) return false;
    return values.some((network) => isWithin(address[2] === 'src' ? packet.source : packet.destination, network));
  }
  const own: Record<string, number | undefined> = {
    'ip.proto': numbers[packet.protocol],
    'tcp.dst': packet.protocol === 'tcp' ? packet.port : undefined,
    'udp.dst': packet.protocol === 'udp' ? packet.port : undefined,
    'udp.src': packet.protocol === 'udp' ? packet.sourcePort : undefined,
    'icmp4.type': packet.protocol === 'icmp' ? packet.icmpType : undefined,
    'icmp4.code': packet.protocol === 'icmp' ? packet.icmpCode : undefined,
    'icmp6.type': packet.protocol === 'icmpv6' ? packet.icmpType : undefined,
    'icmp6.code': packet.protocol === 'icmpv6' ? packet.icmpCode : undefined,
  };
  if (!(field in own)) throw new Error(`not a term of the rules: ${term}`);
  const is = own[field] ?? Number.NaN;
  if (operator !== '==' && !/^(tcp|udp)\.dst$/.test(field)) throw new Error(`OVN compares for equality alone: ${term}`);
  return values.some((one) =>
    operator === '==' ? is === Number(one) : operator === '<=' ? is <= Number(one) : is >= Number(one),
  );
}

/** A conjunction, of which one part may be some conjunctions of which one must hold. */
function matches(match: string, packet: PolicyPacket): boolean {
  const either = /\((\(.*\))\)/.exec(match);
  if (!either) return match.split(' && ').every((term) => holds(term, packet));
  const rest = match.replace(either[0], 'ip');
  const parts = (either[1] ?? '').slice(1, -1).split(') || (');
  return matches(rest, packet) && parts.some((part) => matches(part, packet));
}

const discovery = [130, 131, 132, 133, 134, 135, 136, 143];

/** ovn-nb(5), table ACL: of those that match, the highest priority decides; without one the packet passes. */
function verdict(rows: readonly Row[], packet: PolicyPacket): string {
  if (packet.protocol === 'icmpv6' && discovery.includes(packet.icmpType ?? -1)) return 'allow';
  const direction = packet.direction === 'in' ? 'to-lport' : 'from-lport';
  const matching = rows.filter((row) => row.direction === direction && matches(row.match, packet));
  const highest = Math.max(...matching.map(({ priority }) => priority));
  const actions = new Set(
    matching.filter(({ priority }) => priority === highest).map(({ action }) => action.replace('-related', '')),
  );
  if (actions.size > 1) throw new Error('which of two of one priority decides is not defined');
  return [...actions][0] ?? 'allow';
}

function rowsUnlessIntricate(policy: { rules: PolicyRule[]; defaults: PolicyDefaults }): Row[] | null {
  try {
    return firewallRows('fw', policy, entriesOf);
  } catch (error) {
    if (error instanceof TooIntricate) return null;
    throw error;
  }
}

const inOvn = { allow: 'allow', deny: 'drop', reject: 'reject' } as Record<string, string>;
const addresses = {
  4: ['10.0.0.1', '10.0.0.4', '10.0.1.9', '192.168.7.7', '198.51.100.1', '255.255.255.255', '0.0.0.1'],
  6: ['fd00::1', 'fd00::4', 'fd01::7', '2001:db8::1', 'ff02::1:2', '::1'],
} as const;
const networks = {
  4: ['10.0.0.0/24', '10.0.0.0/8', '10.0.0.4/32', '0.0.0.0/0', '192.168.0.0/16', '128.0.0.0/1'],
  6: ['fd00::/64', 'fd00::/8', '::/0', 'fd01::7/128'],
} as const;

describe('policies at random do what is documented', () => {
  const seed = Number(process.env.BELAY_SEED ?? Date.now() % 1_000_000);
  test(`on OVN, with security groups below them, and as told; seed ${seed}`, () => {
    const draw = randomFrom(seed);
    const random = (below: number): number => Math.floor(draw() * below);
    const drawing = { random, networks, groupIds: { 4: [some, none], 6: [some6] } };
    const seen = { passed: 0, policy: 0, group: 0 };
    let intricate = 0;
    for (let run = 0; run < 500; run++) {
      const policy = drawPolicy(drawing, 10);
      const kept = { rules: meantRules(policy.rules), defaults: policy.defaults };
      const rows = rowsUnlessIntricate(kept);
      if (!rows) {
        intricate++;
        continue;
      }
      const groupRules: Rule[] = Array.from({ length: random(3) }, () => ({
        direction: 'in',
        family: random(2) === 0 ? 4 : 6,
        protocol: 'tcp',
        fromPort: 22,
        toPort: 443,
      }));
      const all = [...rows, ...Object.values(networkAcls('net')), ...aclsOf('sg', groupRules)];
      for (let tries = 0; tries < 20; tries++) {
        const packet = drawPacket(random, addresses);
        if (packet.protocol === 'udp' && random(4) === 0)
          Object.assign(packet, packet.family === 4 ? { port: 67, sourcePort: 68 } : { port: 547, sourcePort: 546 });
        const wanted = said(kept, packet, groups);
        const told = JSON.stringify({ policy, packet, wanted });
        if (verdict(rows, packet) !== inOvn[wanted]) expect.fail(`${verdict(rows, packet)} on OVN: ${told}`);
        // What the policy allows is for the security groups to decide, and for nobody else.
        const below = verdict([...Object.values(networkAcls('net')), ...aclsOf('sg', groupRules)], packet);
        const both = wanted === 'allow' ? below : inOvn[wanted];
        if (verdict(all, packet) !== both) expect.fail(`${verdict(all, packet)} beside groups, not ${both}: ${told}`);
        seen[both === 'allow' ? 'passed' : wanted === 'allow' ? 'group' : 'policy'] += 1;
        if (packet.destination === '255.255.255.255' || packet.destination === 'ff02::1:2') continue;
        const remote = packet.direction === 'in' ? packet.source : packet.destination;
        const { direction, protocol, port, icmpType, icmpCode } = packet;
        const answer = decide(
          {
            families: [4, 6],
            portSecurity: true,
            groups: [{ id: 'sg', rules: groupRules }],
            entries: new Map(Object.entries(groups)),
            membersAt: new Set(),
            address: packet.direction === 'in' ? packet.destination : packet.source,
            policy: { id: 'fw', ...kept },
          },
          {
            direction,
            protocol,
            address: remote,
            ...(port === undefined ? {} : { port }),
            ...(icmpType === undefined ? {} : { icmpType }),
            ...(icmpCode === undefined ? {} : { icmpCode }),
          },
        );
        if (answer.allowed !== (both === 'allow')) expect.fail(`told ${JSON.stringify(answer)}: ${told}`);
        if (answer.firewall && answer.firewall.action !== wanted)
          expect.fail(`told ${JSON.stringify(answer)}: ${told}`);
      }
    }
    expect(Math.min(seen.passed, seen.policy, seen.group)).toBeGreaterThan(200);
    expect(intricate).toBeLessThan(100);
  });
});

const rule = (priority: number, action: PolicyRule['action'], more: Partial<PolicyRule> = {}): PolicyRule => ({
  priority,
  direction: 'in',
  action,
  protocol: 'any',
  ...more,
});
const closed = { in: 'deny', out: 'allow' } as const;
const rowsOf = (rules: PolicyRule[], defaults: { in: 'allow' | 'deny'; out: 'allow' | 'deny' } = closed) =>
  firewallRows('fw', { rules, defaults }, entriesOf);

describe('rows', () => {
  test('stand above those of all security groups, each rule above those behind it', () => {
    const rows = rowsOf([rule(20, 'deny', { family: 4 }), rule(10, 'reject', { family: 4, protocol: 'tcp' })]);
    expect(rows.map(({ priority, action }) => [priority, action])).toEqual([
      [3002, 'reject'],
      [3001, 'drop'],
      [3000, 'drop'],
      [3000, 'drop'],
    ]);
    expect(Math.max(...Object.values(priorities))).toBeLessThan(firewallPriorities.rules);
    expect(firewallPriorities.rules + 256).toBeLessThan(firewallPriorities.addressRequest);
  });

  test('leave out what is allowed before, and there is none for what is allowed', () => {
    expect(rowsOf([rule(1, 'allow', { family: 4 }), rule(2, 'deny', { family: 4, protocol: 'tcp' })])).toEqual(
      rowsOf([rule(1, 'allow', { family: 4 })]),
    );
    expect(rowsOf([rule(1, 'allow', { source: { cidr: '128.0.0.0/1' } })]).map(({ match }) => match)).toEqual([
      'outport == @fw && ip4 && ip4.src == 0.0.0.0/1',
      'outport == @fw && ip6',
    ]);
    expect(rowsOf([rule(1, 'allow')])).toEqual([]);
  });

  test('are logged by the name of their policy and the priority of their rule', () => {
    const rows = rowsOf([rule(7, 'deny', { family: 4, log: true })]);
    expect(rows.map(({ logged }) => logged)).toEqual(['fw-in-7', null, null]);
  });

  test('never keep a guest from asking for an address', () => {
    const rows = rowsOf([], { in: 'allow', out: 'deny' });
    expect(rows.filter(({ action }) => action === 'allow').length).toBe(2);
    expect(rowsOf([], { in: 'deny', out: 'allow' }).every(({ action }) => action === 'drop')).toBe(true);
  });

  test('are not written where they would be more than hosts are given', () => {
    const scattered = Array.from({ length: 200 }, (_, index) =>
      rule(index + 1, 'allow', {
        protocol: 'tcp',
        fromPort: 2 * index + 1,
        source: { cidr: `10.${index}.7.0/24` },
        destination: { cidr: `172.16.${index}.0/24` },
      }),
    );
    const wide = Array.from({ length: 50 }, (_, index) =>
      rule(1000 + index, 'allow', { source: { cidr: `11.${index * 2}.1.0/24` } }),
    );
    expect(() => rowsOf([...scattered, ...wide])).toThrow(TooIntricate);
  });
});

test('spans are sets of addresses', () => {
  const spans = union([spanOf('10.0.1.0/24'), spanOf('10.0.0.0/24'), spanOf('10.0.3.0/24')]);
  expect(networksOf(4, spans)).toEqual(['10.0.0.0/23', '10.0.3.0/24']);
  expect(networksOf(4, difference(spans, [spanOf('10.0.0.128/25')]))).toEqual([
    '10.0.0.0/25',
    '10.0.1.0/24',
    '10.0.3.0/24',
  ]);
  expect(networksOf(4, intersection(spans, [spanOf('10.0.2.0/23')]))).toEqual(['10.0.3.0/24']);
  expect(networksOf(6, difference([spanOf('::/0')], [spanOf('8000::/1')]))).toEqual(['::/1']);
  expect(networksOf(6, [spanOf('fd00:0:0:1::/64')])).toEqual(['fd00:0:0:1::/64']);
});

describe('what can not be meant is refused with its field', () => {
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
    ['any with ports', { fromPort: 22 }, 'fromPort'],
    ['icmp with ports', { protocol: 'icmp', fromPort: 8, toPort: 8 }, 'toPort'],
    ['tcp with a type', { protocol: 'tcp', icmpType: 8 }, 'icmpType'],
    ['a code without its type', { protocol: 'icmp', icmpCode: 0 }, 'icmpCode'],
    ['a range upside down', { protocol: 'tcp', fromPort: 443, toPort: 80 }, 'toPort'],
    ['an end without a beginning', { protocol: 'udp', toPort: 80 }, 'toPort'],
    ['port 0', { protocol: 'tcp', fromPort: 0 }, 'fromPort'],
    ['IPv6 in a rule for IPv4', { family: 4, source: { cidr: '::/0' } }, 'source.cidr'],
    ['IPv4 in a rule for IPv6', { family: 6, destination: { cidr: '10.0.0.0/8' } }, 'destination.cidr'],
    ['from IPv4 to IPv6', { source: { cidr: '10.0.0.0/8' }, destination: { cidr: '::/0' } }, 'destination.cidr'],
    ['ICMPv6 of IPv4', { family: 4, protocol: 'icmpv6' }, 'protocol'],
    ['a group of the other family', { family: 4, source: { addressGroupId: some6 } }, 'source.addressGroupId'],
    ['host bits', { source: { cidr: '10.0.0.5/24' } }, 'source.cidr'],
    ['a network and a group', { source: { cidr: '10.0.0.0/8', addressGroupId: some } }, 'source.addressGroupId'],
    ['the priority of another', { priority: 1 }, 'priority'],
    ['no priority', { priority: undefined }, 'priority'],
    ['priority 0', { priority: 0 }, 'priority'],
    ['another action', { action: 'drop' }, 'action'],
    ['without tracking', { stateful: false }, 'stateful'],
    ['what is allowed, logged', { action: 'allow', log: true }, 'log'],
    ['a field that there is not', { remoteCidr: '10.0.0.0/8' }, 'remoteCidr'],
  ];
  test.each(cases)('%s', (_, more, field) => {
    const { priority, ...rest } = { ...rule(2, 'deny'), ...more } as Record<string, unknown>;
    const body = { rules: [rule(1, 'allow'), { ...rest, ...(priority === undefined ? {} : { priority }) }] };
    const familyOfGroup = (id: string) => (id === some6 ? 6 : 4) as 4 | 6;
    for (const act of [
      () =>
        meantRules(
          checkCreate(kinds.firewallPolicy as never, { name: 'p', ...body }).rules as PolicyRule[],
          familyOfGroup,
        ),
      () =>
        meantRules(checkAction(kinds.firewallPolicy as never, 'setRules', body).rules as PolicyRule[], familyOfGroup),
    ]) {
      const problem = refusalOf(act);
      expect(problem.code).toBe('INVALID_ARGUMENT');
      expect(problem.details.violations?.map((one) => one.field)).toContain(`rules.1.${field}`);
    }
  });

  test('two rules of one priority say which', () => {
    const problem = refusalOf(() => meantRules([rule(5, 'allow'), rule(6, 'deny'), rule(5, 'deny')]));
    expect(problem.details.violations).toEqual([
      { field: 'rules.2.priority', message: '5 is that of rules.0 already: of one direction each rule has its own' },
    ]);
    expect(meantRules([rule(5, 'allow'), rule(5, 'deny', { direction: 'out' })]).length).toBe(2);
  });
});
