import { isIPv4 } from 'node:net';

/** IPv4 arithmetic on numbers: 32 bits fit a double. */
export const toNumber = (address: string): number =>
  address.split('.').reduce((sum, part) => sum * 256 + Number(part), 0);

export const toAddress = (value: number): string =>
  [24, 16, 8, 0].map((shift) => Math.floor(value / 2 ** shift) % 256).join('.');

export interface Range {
  first: number;
  last: number;
}

/** First and last address of a CIDR block, or null when it is none or has host bits set (RFC 4632). */
export function rangeOf(cidr: string): Range | null {
  const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})\/(\d{1,2})$/.exec(cidr);
  if (!match) return null;
  const bits = Number(match[5]);
  if (bits > 32 || match.slice(1, 5).some((part) => Number(part) > 255)) return null;
  const first = toNumber(cidr.split('/')[0] ?? '');
  const size = 2 ** (32 - bits);
  return first % size === 0 ? { first, last: first + size - 1 } : null;
}

export function contains(cidr: string, address: string): boolean {
  const range = rangeOf(cidr);
  const value = toNumber(address);
  return range !== null && value > range.first && value < range.last;
}

/** Whether all addresses of `inner`, an address or a block, lie in `outer`; host bits are passed over. False for what is no IPv4. */
export function covers(outer: string, inner: string): boolean {
  const [network = '', bits = '32'] = outer.split('/');
  const [other = '', otherBits = '32'] = inner.split('/');
  if (!isIPv4(network) || !isIPv4(other) || Number(otherBits) < Number(bits)) return false;
  const size = 2 ** (32 - Number(bits));
  return Math.floor(toNumber(network) / size) === Math.floor(toNumber(other) / size);
}
