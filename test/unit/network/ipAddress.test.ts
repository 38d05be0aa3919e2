/** Addresses of either family as numbers, and what is given out of a subnet. */
import { describe, expect, test } from 'vitest';
import { keptBack, subnetPlan6 } from '../../../acceptance/network/subnet6.ts';
import {
  bitsOf,
  familyOfAddress,
  liesIn,
  networkRange,
  slaacAddress,
  textOf,
  without,
} from '../../../model/network/ipAddress.ts';
import type { Problem } from '../../../runtime/problem.ts';

test.each(['0.0.0.0', '10.0.0.7', '255.255.255.255', '::', '::1', 'fd00::', 'fd00::1:0:0:7', '2001:db8::ff00:42:8329'])(
  '%s is the same after it was a number',
  (address) => expect(textOf(familyOfAddress(address), bitsOf(address))).toBe(address),
);

test('a network has a first and a last address, and what lies in it', () => {
  expect(networkRange('10.0.0.0/30')).toEqual({ family: 4, length: 30, first: 0x0a000000n, last: 0x0a000003n });
  expect(textOf(6, networkRange('fd00::/64').last)).toBe('fd00::ffff:ffff:ffff:ffff');
  expect([liesIn('10.0.0.7', '10.0.0.0/29'), liesIn('10.0.0.8', '10.0.0.0/29')]).toEqual([true, false]);
  expect([liesIn('fd00::7', '10.0.0.0/8'), liesIn('10.0.0.7', '::/0'), liesIn('fd00::7', '::/0')]).toEqual([
    false,
    false,
    true,
  ]);
});

test('a guest makes its address of its MAC address', () => {
  // RFC 4291, appendix A, with the universal bit of a locally administered one.
  expect(slaacAddress('fd00::/64', '02:00:5e:10:00:01')).toBe('fd00::5eff:fe10:1');
  expect(slaacAddress('2001:db8::/64', '34:56:78:9a:bc:de')).toBe('2001:db8::3656:78ff:fe9a:bcde');
});

test('what is kept back is cut out of ranges', () => {
  const all = [{ first: 1n, last: 10n }];
  expect(without(all, [])).toEqual(all);
  expect(without(all, [{ first: 1n, last: 1n }])).toEqual([{ first: 2n, last: 10n }]);
  expect(
    without(all, [
      { first: 4n, last: 5n },
      { first: 10n, last: 12n },
    ]),
  ).toEqual([
    { first: 1n, last: 3n },
    { first: 6n, last: 9n },
  ]);
  expect(without(all, [{ first: 0n, last: 20n }])).toEqual([]);
});

const fieldOf = (act: () => unknown): string | undefined => {
  try {
    act();
  } catch (error) {
    return (error as Problem).details.violations?.[0]?.field;
  }
  return undefined;
};

describe('a subnet of IPv6', () => {
  const plan = (more: Partial<Parameters<typeof subnetPlan6>[0]>) =>
    subnetPlan6({ cidr: 'fd00::/64', gateway: null, allocationRanges: [], ipv6Mode: 'dhcpv6', ...more });

  test('gives out its first addresses by DHCPv6, the ranges that are said, or none where they follow from MAC addresses', () => {
    expect(plan({}).ranges.map(({ first, last }) => [textOf(6, first), textOf(6, last)])).toEqual([
      ['fd00::1', 'fd00::1:0:0'],
    ]);
    expect(plan({ cidr: 'fd00::/120' }).ranges.map(({ last }) => textOf(6, last))).toEqual(['fd00::ff']);
    const allocationRanges = [
      { from: 'fd00::200', to: 'fd00::2ff' },
      { from: 'fd00::100', to: 'fd00::1ff' },
    ];
    expect(plan({ allocationRanges }).ranges.map(({ first }) => textOf(6, first))).toEqual(['fd00::100', 'fd00::200']);
    expect(plan({ ipv6Mode: 'slaac' }).ranges).toEqual([]);
  });

  test.each<[string, Parameters<typeof plan>[0], string]>([
    ['link-local', { cidr: 'fe80::/64' }, 'cidr'],
    ['multicast', { cidr: 'ff00::/64' }, 'cidr'],
    ['IPv4 in IPv6', { cidr: '::ffff:0:0/96' }, 'cidr'],
    ['a prefix too long', { cidr: 'fd00::/121' }, 'cidr'],
    ['a prefix too short', { cidr: 'fd00::/63' }, 'cidr'],
    ['SLAAC without a /64', { cidr: 'fd00::/80', ipv6Mode: 'slaac' }, 'cidr'],
    [
      'ranges with SLAAC',
      { ipv6Mode: 'slaac', allocationRanges: [{ from: 'fd00::1', to: 'fd00::2' }] },
      'allocationRanges',
    ],
    ['a gateway outside', { gateway: 'fd01::1' }, 'gateway'],
    ['a gateway of IPv4', { gateway: '10.0.0.1' }, 'gateway'],
    ['the address of all routers', { gateway: 'fd00::' }, 'gateway'],
    ['a range outside', { allocationRanges: [{ from: 'fd00::1', to: 'fd01::1' }] }, 'allocationRanges.0.to'],
    ['a range upside down', { allocationRanges: [{ from: 'fd00::9', to: 'fd00::1' }] }, 'allocationRanges.0.to'],
    ['a range of IPv4', { allocationRanges: [{ from: '10.0.0.1', to: 'fd00::1' }] }, 'allocationRanges.0.from'],
    ['a range too large', { allocationRanges: [{ from: 'fd00::1', to: 'fd00::2:0:0' }] }, 'allocationRanges.0.to'],
    [
      'ranges that cross',
      {
        allocationRanges: [
          { from: 'fd00::1', to: 'fd00::9' },
          { from: 'fd00::9', to: 'fd00::a' },
        ],
      },
      'allocationRanges.1',
    ],
  ])('is refused with its field: %s', (_, more, field) => expect(fieldOf(() => plan(more))).toBe(field));
});

test.each<[string, Parameters<typeof keptBack>, string]>([
  ['a range outside', ['10.0.0.0/24', [{ from: '10.0.1.1', to: '10.0.1.2' }], []], 'reservedRanges.0.from'],
  ['a range of the other family', ['10.0.0.0/24', [{ from: 'fd00::1', to: 'fd00::2' }], []], 'reservedRanges.0.from'],
  ['an address outside', ['10.0.0.0/24', [], [{ ip: '10.0.1.1' }]], 'reservations.0.ip'],
  ['an address twice', ['10.0.0.0/24', [], [{ ip: '10.0.0.9' }, { ip: '10.0.0.9' }]], 'reservations.1.ip'],
  [
    'an address in a range',
    ['10.0.0.0/24', [{ from: '10.0.0.9', to: '10.0.0.9' }], [{ ip: '10.0.0.9' }]],
    'reservations.0.ip',
  ],
])('what can not be kept back is refused with its field: %s', (_, given, field) =>
  expect(fieldOf(() => keptBack(...given))).toBe(field),
);
