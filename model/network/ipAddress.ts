/** Addresses of either family as their bits, and networks as their first and last address. */
import { ipv4Of, ipv6Of } from '../forms.ts';

export type Family = 4 | 6;

export const familyOfAddress = (address: string): Family => (address.includes(':') ? 6 : 4);
export const widthOf = (family: Family): number => (family === 4 ? 32 : 128);

/** -1 of what is no address. */
export function bitsOf(address: string): bigint {
  const four = ipv4Of(address);
  return four === null ? (ipv6Of(address)?.bits ?? -1n) : BigInt(four);
}

export function textOf(family: Family, bits: bigint): string {
  if (family === 4) return [24n, 16n, 8n, 0n].map((shift) => (bits >> shift) & 255n).join('.');
  const groups = Array.from({ length: 8 }, (_, index) => ((bits >> BigInt(16 * (7 - index))) & 0xffffn).toString(16));
  return ipv6Of(groups.join(':'))?.text ?? '';
}

export interface AddressRange {
  first: bigint;
  last: bigint;
}

/** All addresses of a network, or the one address where there is no length. */
export function networkRange(network: string): AddressRange & { family: Family; length: number } {
  const [base = '', length] = network.split('/');
  const family = familyOfAddress(base);
  const bits = Number(length ?? widthOf(family));
  const first = bitsOf(base);
  return { family, length: bits, first, last: first + (1n << BigInt(widthOf(family) - bits)) - 1n };
}

export const isWithin = (bits: bigint, { first, last }: AddressRange): boolean => bits >= first && bits <= last;

/** Whether an address lies in a network of the same family; false for another. */
export function liesIn(address: string, network: string): boolean {
  const range = networkRange(network);
  return range.family === familyOfAddress(address) && isWithin(bitsOf(address), range);
}

/** Ranges without what is blocked, in order. */
export const without = (ranges: readonly AddressRange[], blocked: readonly AddressRange[]): AddressRange[] =>
  blocked.reduce<AddressRange[]>(
    (left, { first, last }) =>
      left.flatMap((range) =>
        last < range.first || first > range.last
          ? [range]
          : [
              { first: range.first, last: first - 1n },
              { first: last + 1n, last: range.last },
            ].filter((part) => part.first <= part.last),
      ),
    [...ranges],
  );

/** The address that a guest makes of its MAC by itself in a /64 (RFC 4291, appendix A). */
export function slaacAddress(network: string, mac: string): string {
  const bytes = mac.split(':').map((byte) => BigInt(`0x${byte}`));
  const [first = 0n, second = 0n, third = 0n, ...rest] = bytes;
  const eui64 = [first ^ 2n, second, third, 0xffn, 0xfen, ...rest].reduce((sum, byte) => (sum << 8n) + byte, 0n);
  return textOf(6, networkRange(network).first + eui64);
}
