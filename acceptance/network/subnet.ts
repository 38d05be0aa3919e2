import { cursorsOf, inUseWithin, resetCursors } from '../../database/addresses.ts';
import { from, statement, type Values } from '../../database/statement.ts';
import { keepRange, userOfRange, vpcOfNetwork } from '../../database/vpcs.ts';
import { kindOf } from '../../model/kinds.ts';
import {
  type AddressRange,
  bitsOf,
  familyOfAddress,
  networkRange,
  textOf,
  without,
} from '../../model/network/ipAddress.ts';
import { Problem } from '../../runtime/problem.ts';
import { placeOf } from '../caller.ts';
import type { Accepting, Hooks, Row } from '../change.ts';
import { invalid } from '../violation.ts';
import { covers, type Range, rangeOf, toAddress, toNumber } from './cidr.ts';
import { keptBack, type Reservation, type Said, subnetPlan6 } from './subnet6.ts';

interface Input {
  networkId: string;
  cidr: string;
  gateway?: string | null;
  allocationRanges?: { from: string; to: string }[] | null;
}

/** Addresses that no guest can have (RFC 6890, RFC 5771, RFC 1112). */
const reserved: [string, string][] = [
  ['0.0.0.0/8', 'this network'],
  ['127.0.0.0/8', 'loopback'],
  ['169.254.0.0/16', 'link-local'],
  ['224.0.0.0/4', 'multicast'],
  ['240.0.0.0/4', 'reserved, and broadcast'],
];

const overlap = (one: Range, other: Range): boolean => one.first <= other.last && other.first <= one.last;

/** The network of a subnet as numbers. Throws INVALID_ARGUMENT. */
function rangeOfNetwork(cidr: string): Range {
  const range = rangeOf(cidr);
  const bits = Number(cidr.split('/')[1]);
  if (!range) throw invalid('cidr', 'is no IPv4 network: the host part must be zero');
  if (bits < 8 || bits > 29) throw invalid('cidr', 'must be between /8 and /29');
  for (const [network, what] of reserved) {
    const other = rangeOf(network);
    if (other && overlap(range, other))
      throw invalid('cidr', `overlaps ${network} (${what}), whose addresses are nobody's`);
  }
  return range;
}

/** Where automatic addresses come from, lowest first. Throws INVALID_ARGUMENT for ranges that overlap, lie elsewhere, or hold nothing to give. */
export function subnetPlan({ cidr, gateway, allocationRanges }: Omit<Input, 'networkId'>): {
  gateway: string;
  ranges: Range[];
} {
  const { first, last } = rangeOfNetwork(cidr);
  const router = gateway ?? toAddress(first + 1);
  const inside = (address: number): boolean => address > first && address < last;
  if (!inside(toNumber(router))) throw invalid('gateway', `is no address of ${cidr}`);
  const wanted = (allocationRanges ?? []).map(({ from, to }) => ({ first: toNumber(from), last: toNumber(to) }));
  for (const [index, range] of wanted.entries()) {
    const at = `allocationRanges.${index}`;
    if (!inside(range.first)) throw invalid(`${at}.from`, `is no address of ${cidr}`);
    if (!inside(range.last)) throw invalid(`${at}.to`, `is no address of ${cidr}`);
    if (range.first > range.last) throw invalid(`${at}.to`, 'must not be below from');
    if (range.first === range.last && range.first === toNumber(router))
      throw invalid(at, 'holds the gateway and nothing else');
    const other = wanted.findIndex((before, place) => place < index && overlap(before, range));
    if (other >= 0) throw invalid(at, `overlaps allocationRanges.${other}`);
  }
  const ranges = wanted.length > 0 ? wanted.sort((a, b) => a.first - b.first) : [{ first: first + 1, last: last - 1 }];
  return { gateway: router, ranges };
}

const oneAfterTheOther = statement((p: Values<{ networkId: string }>) =>
  from.selectFrom('network').select('id').where('id', '=', p.networkId).forNoKeyUpdate(),
);

/** What is given out of a subnet of either family, lowest first, before anything is kept back. */
function planOf(input: Input, row: Row): { gateway: string | null; ranges: AddressRange[] } {
  const { cidr, gateway = null } = input;
  const allocationRanges = input.allocationRanges ?? [];
  if (familyOfAddress(cidr) === 6) {
    row.ipv6Mode ??= 'slaac';
    return subnetPlan6({ cidr, gateway, allocationRanges, ipv6Mode: String(row.ipv6Mode) });
  }
  if (row.ipv6Mode) throw invalid('ipv6Mode', 'is for IPv6 only');
  for (const [index, { from, to }] of allocationRanges.entries())
    for (const [name, one] of Object.entries({ from, to }))
      if (familyOfAddress(one) === 6) throw invalid(`allocationRanges.${index}.${name}`, `is no address of ${cidr}`);
  if (gateway && familyOfAddress(gateway) === 6) throw invalid('gateway', `is no address of ${cidr}`);
  const { ranges, ...rest } = subnetPlan(input);
  return { ...rest, ranges: ranges.map(({ first, last }) => ({ first: BigInt(first), last: BigInt(last) })) };
}

/** Throws INVALID_ARGUMENT for what DHCP of the family can not tell. */
function refuseUntold(cidr: string, told: Record<string, unknown>): void {
  const family = familyOfAddress(cidr);
  const list = <T>(name: string): T[] => (told[name] ?? []) as T[];
  for (const name of ['ntpServers', 'hostRoutes'])
    if (family === 6 && list(name).length > 0) throw invalid(name, 'is told by DHCP of IPv4 only');
  for (const name of ['dnsServers', 'ntpServers'])
    for (const [index, one] of list<string>(name).entries())
      if (familyOfAddress(one) !== family)
        throw invalid(`${name}.${index}`, `must be an IPv${family} address, as the subnet is`);
  for (const [index, route] of list<{ cidr: string; nextHop: string }>('hostRoutes').entries()) {
    const at = `hostRoutes.${index}`;
    if (familyOfAddress(route.cidr) !== 4) throw invalid(`${at}.cidr`, 'must be an IPv4 network, as the subnet is');
    const { first, last } = networkRange(cidr);
    const hop = bitsOf(route.nextHop);
    if (familyOfAddress(route.nextHop) !== 4 || hop <= first || hop >= last)
      throw invalid(`${at}.nextHop`, `is no address of ${cidr}`);
  }
}

const cursorRows = (subnetId: string, cidr: string, ranges: readonly AddressRange[]): Record<string, unknown>[] => {
  const text = (bits: bigint): string => textOf(familyOfAddress(cidr), bits);
  return ranges.map(({ first, last }, place) => ({
    subnetId,
    place,
    first: text(first),
    next: text(first),
    last: text(last),
  }));
};

async function accept({ tx, row, input, references, rows }: Accepting): Promise<void> {
  const { networkId, cidr } = input as unknown as Input;
  const network = references.get(`network/${networkId}`);
  if (!network?.external && input.quarantineSeconds) throw invalid('quarantineSeconds', 'is for public ranges');
  const [vpc] = network?.vpcId ? await vpcOfNetwork(tx, { networkId }) : [];
  const isSix = familyOfAddress(cidr) === 6;
  const planned = planOf(input as unknown as Input, row);
  const { ranges } = planned;
  // Without a router nobody need be the gateway of a subnet of IPv6; in a VPC it is the router.
  const gateway = planned.gateway ?? (vpc && isSix ? textOf(6, networkRange(cidr).first + 1n) : null);
  refuseUntold(cidr, row);
  const kept = keptBack(cidr, row.reservedRanges as Said[], row.reservations as Reservation[]);
  if (network?.external) {
    // Nobody asks for an address there: routers and floating IPs are given theirs.
    if (input.dhcp === true) throw invalid('dhcp', 'is not for a public range: no instance is plugged in there');
    row.dhcp = false;
    const router = gateway === null ? -1n : bitsOf(gateway);
    const at = ranges.findIndex(({ first, last }) => first <= router && router <= last);
    if (((input.allocationRanges as unknown[] | null | undefined) ?? []).length > 0 && at >= 0)
      throw invalid('gateway', 'lies in a range that addresses are given out of');
  }
  const { routeTableId } = input as { routeTableId?: string | null };
  if (isSix && routeTableId) throw invalid('routeTableId', 'is for IPv4 only');
  if (vpc && !isSix && !vpc.cidrs.some((range) => covers(range, cidr)))
    throw invalid('cidr', `lies in no range of its VPC: ${vpc.cidrs.join(', ')}`);
  if (routeTableId && references.get(`routeTable/${routeTableId}`)?.vpcId !== vpc?.id)
    throw invalid('routeTableId', 'is no route table of the VPC of the network');
  // Subnets of a network are made one after the other: two that overlap would wait for each other until PostgreSQL ends one by force.
  await oneAfterTheOther(tx, { networkId });
  Object.assign(row, {
    gateway,
    family: isSix ? 6 : 4,
    zoneId: network?.zoneId,
    vpcId: vpc?.id ?? null,
    external: network?.external === true,
    physicalNetworkId: network?.type === 'overlay' ? null : (network?.physicalNetworkId ?? null),
  });
  rows.subnetCursor = cursorRows(row.id, cidr, without(ranges, kept));
  // The gateway is nobody's: it is taken for the subnet itself.
  if (gateway !== null) rows.subnetAddress = [{ subnetId: row.id, address: gateway, networkInterfaceId: row.id }];
}

/** What is kept back may change while addresses are given out; what an interface has stays its own. */
async function update({ tx, row, input }: Accepting): Promise<void> {
  if (!('reservedRanges' in input) && !('reservations' in input)) return;
  const cidr = String(row.cidr);
  const now = (name: string): unknown[] =>
    name in input ? ((input[name] as unknown[] | null) ?? []) : (row[name] as unknown[]);
  const reservedRanges = now('reservedRanges') as Said[];
  const kept = keptBack(cidr, reservedRanges, now('reservations') as Reservation[]);
  await cursorsOf(tx, { subnetId: row.id });
  for (const [index, { from, to }] of reservedRanges.entries()) {
    const [used] = await inUseWithin(tx, { subnetId: row.id, from, to });
    if (used)
      throw new Problem('ADDRESS_IN_USE', `address ${used.address} of subnet ${row.id} is in use`, {
        violations: [{ field: `reservedRanges.${index}`, message: `holds ${used.address}, which is in use` }],
      });
  }
  const { ranges } = planOf(row as unknown as Input, { ...row });
  await resetCursors(tx, {
    subnetId: row.id,
    cursors: JSON.stringify(cursorRows(row.id, cidr, without(ranges, kept))),
  });
}

export const subnetHooks: Hooks = {
  'subnet.create': {
    permittedAt: (row, loaded) =>
      placeOf(kindOf('network'), loaded.get(`network/${String(row.networkId)}`) ?? { id: String(row.networkId) }),
    accept,
  },
  'subnet.delete': {
    async accept({ tx, row }) {
      if (row.external !== true) return;
      await keepRange(tx, { subnetId: row.id });
      const [user] = await userOfRange(tx, { subnetId: row.id });
      if (user) throw new Problem('HAS_DEPENDENTS', `addresses of subnet ${row.id} are in use`, { blockers: [user] });
    },
  },
  'subnet.update': { accept: update },
  'subnet.setOptions': {
    accept({ row, input }) {
      if (Object.keys(input).length === 0)
        throw invalid('dnsServers', 'is needed, or another option: there is nothing to set');
      if (row.dhcp === false || row.ipv6Mode === 'slaac')
        throw new Problem('INVALID_STATE', `subnet ${row.id} has no DHCP that could tell anything`);
      refuseUntold(String(row.cidr), input);
    },
  },
};
