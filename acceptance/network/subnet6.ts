/** Ranges of subnets: what an IPv6 one may be, and what of either family is kept from being given out. */
import {
  type AddressRange,
  bitsOf,
  type Family,
  familyOfAddress,
  isWithin,
  networkRange,
} from '../../model/network/ipAddress.ts';
import { invalid } from '../violation.ts';

export interface Said {
  from: string;
  to: string;
}

/** So many addresses of one range are given out at the most. */
const mostOfRange = 1n << 32n;

/** Networks whose addresses no guest can have (RFC 4291, RFC 6890). */
const nobodys: [string, string][] = [
  ['::/8', 'unspecified, loopback, and IPv4 in IPv6'],
  ['100::/64', 'for what is thrown away'],
  ['fe80::/10', 'link-local'],
  ['ff00::/8', 'multicast'],
];

/** What is given out of an IPv6 subnet. Throws INVALID_ARGUMENT. */
export function subnetPlan6({
  cidr,
  gateway,
  allocationRanges,
  ipv6Mode,
}: {
  cidr: string;
  gateway: string | null;
  allocationRanges: readonly Said[];
  ipv6Mode: string;
}): { gateway: string | null; ranges: AddressRange[] } {
  const { first, last, length } = networkRange(cidr);
  for (const [network, what] of nobodys) {
    const other = networkRange(network);
    if (first <= other.last && other.first <= last)
      throw invalid('cidr', `overlaps ${network} (${what}), whose addresses are nobody's`);
  }
  if (ipv6Mode === 'dhcpv6' ? length < 64 || length > 120 : length !== 64)
    throw invalid('cidr', ipv6Mode === 'dhcpv6' ? 'must be between /64 and /120' : `must be a /64 for ${ipv6Mode}`);
  // The first is that of all routers of the network (RFC 4291, 2.6.1).
  const usable = { first: first + 1n, last };
  if (gateway !== null && !(familyOfAddress(gateway) === 6 && isWithin(bitsOf(gateway), usable)))
    throw invalid('gateway', `is no address of ${cidr}`);
  if (ipv6Mode !== 'dhcpv6') {
    if (allocationRanges.length > 0)
      throw invalid('allocationRanges', `is not for ${ipv6Mode}: addresses follow from MAC addresses`);
    return { gateway, ranges: [] };
  }
  const ranges = rangesIn(allocationRanges, usable, 6, cidr, 'allocationRanges');
  for (const [index, range] of ranges.entries())
    if (range.last - range.first >= mostOfRange)
      throw invalid(`allocationRanges.${index}.to`, 'is too far from: a range has 4,294,967,296 addresses at the most');
  const all = { first: usable.first, last: usable.last - usable.first < mostOfRange ? last : first + mostOfRange };
  return { gateway, ranges: ranges.length > 0 ? ranges.sort((a, b) => (a.first < b.first ? -1 : 1)) : [all] };
}

/** Throws INVALID_ARGUMENT for ranges that lie elsewhere, run backwards, or overlap. */
export function rangesIn(
  said: readonly Said[],
  usable: AddressRange,
  family: Family,
  cidr: string,
  field: string,
): AddressRange[] {
  const ranges = said.map(({ from, to }) => ({ first: bitsOf(from), last: bitsOf(to) }));
  for (const [index, { first, last }] of ranges.entries()) {
    const at = `${field}.${index}`;
    for (const [name, bits] of [
      ['from', first],
      ['to', last],
    ] as const)
      if (familyOfAddress(said[index]?.[name] ?? '') !== family || !isWithin(bits, usable))
        throw invalid(`${at}.${name}`, `is no address of ${cidr}`);
    if (first > last) throw invalid(`${at}.to`, 'must not be below from');
    const other = ranges.findIndex((one, place) => place < index && one.first <= last && first <= one.last);
    if (other >= 0) throw invalid(at, `overlaps ${field}.${other}`);
  }
  return ranges;
}

export interface Reservation {
  ip: string;
  mac?: string;
  note?: string;
}

/** What is not given out by itself. Throws INVALID_ARGUMENT for what is no address of the subnet, or there twice. */
export function keptBack(
  cidr: string,
  reservedRanges: readonly Said[],
  reservations: readonly Reservation[],
): AddressRange[] {
  const { family, ...all } = networkRange(cidr);
  const ranges = rangesIn(reservedRanges, all, family, cidr, 'reservedRanges');
  for (const [index, { ip }] of reservations.entries()) {
    const at = `reservations.${index}.ip`;
    if (familyOfAddress(ip) !== family || !isWithin(bitsOf(ip), all)) throw invalid(at, `is no address of ${cidr}`);
    const other = reservations.findIndex((one, place) => place < index && one.ip === ip);
    if (other >= 0) throw invalid(at, `is reservations.${other} already`);
    if (ranges.some((range) => isWithin(bitsOf(ip), range))) throw invalid(at, 'lies in a reserved range');
  }
  return [...ranges, ...reservations.map(({ ip }) => ({ first: bitsOf(ip), last: bitsOf(ip) }))];
}
