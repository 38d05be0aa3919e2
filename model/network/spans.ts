/** Sets of addresses as numbers: spans in order, that neither touch nor overlap. */
import { type Family, networkRange, textOf, widthOf } from './ipAddress.ts';

export type Span = readonly [first: bigint, last: bigint];

/** All addresses of a family. */
export const everywhere = (family: Family): Span[] => [[0n, (1n << BigInt(widthOf(family))) - 1n]];

/** The same addresses in order, each once. */
export function union(spans: readonly Span[]): Span[] {
  const joined: [bigint, bigint][] = [];
  for (const [first, last] of [...spans].sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0))) {
    const before = joined.at(-1);
    if (before && first <= before[1] + 1n) {
      if (last > before[1]) before[1] = last;
    } else joined.push([first, last]);
  }
  return joined;
}

export function intersection(some: readonly Span[], others: readonly Span[]): Span[] {
  const both: Span[] = [];
  for (let a = 0, b = 0; a < some.length && b < others.length; ) {
    const [one, other] = [some[a] as Span, others[b] as Span];
    let [first, last] = one;
    if (other[0] > first) first = other[0];
    if (other[1] < last) last = other[1];
    if (first <= last) both.push([first, last]);
    if (one[1] < other[1]) a++;
    else b++;
  }
  return both;
}

export function difference(some: readonly Span[], others: readonly Span[]): Span[] {
  const left: Span[] = [];
  let b = 0;
  for (const [begin, last] of some) {
    let first = begin;
    while (b < others.length && (others[b] as Span)[1] < first) b++;
    for (let at = b; at < others.length && (others[at] as Span)[0] <= last; at++) {
      const [hole, end] = others[at] as Span;
      if (hole > first) left.push([first, hole - 1n]);
      first = end + 1n;
    }
    if (first <= last) left.push([first, last]);
  }
  return left;
}

/** The addresses of a network as it is written, or of one address. */
export function spanOf(cidr: string): Span {
  const { first, last } = networkRange(cidr);
  return [first, last];
}

/** The fewest networks that hold these addresses and no others. */
export function networksOf(family: Family, spans: readonly Span[]): string[] {
  const networks: string[] = [];
  for (const [begin, last] of spans) {
    for (let first = begin; first <= last; ) {
      let free = 0;
      // As large as the place where it begins and what is left allow.
      while (free < widthOf(family)) {
        const size = 1n << BigInt(free + 1);
        if (first % size !== 0n || first + size - 1n > last) break;
        free++;
      }
      networks.push(`${textOf(family, first)}/${widthOf(family) - free}`);
      first += 1n << BigInt(free);
    }
  }
  return networks;
}
