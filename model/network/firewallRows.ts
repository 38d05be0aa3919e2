/**
 * What a firewall policy comes to in OVN 23.03, which has one table of ACLs for each direction: the first row that matches there decides for good, and
 * there is none that says "ask the security groups". So an allow has no row. It is left out of the rows of what is denied behind it, and a packet that no
 * row of the policy meets goes on to the rows of the security groups, which are below. docs/network.md, "Firewall policies", tells it at length.
 */
import { familiesOf, type PolicyDefaults, type PolicyEnd, type PolicyRule } from './firewallPolicy.ts';
import type { Family } from './ipAddress.ts';
import { difference, everywhere, intersection, networksOf, type Span, spanOf, union } from './spans.ts';

/** A row of OVN's table ACL, as ovn-nb(5) describes it. */
export interface FirewallRow {
  direction: 'to-lport' | 'from-lport';
  priority: number;
  match: string;
  action: 'allow' | 'drop' | 'reject';
  /** Its name in the log; null for what is not logged. */
  logged: string | null;
}

/** Above all of security groups. Each rule is above those behind it, and asking for an address above all rules. */
export const firewallPriorities = { rules: 3000, addressRequest: 4000 } as const;

/** So many flows, roughly, a policy may come to on a host for each of its interfaces. */
export const flowsMax = 50_000;

export class TooIntricate extends Error {}

/** Networks of an address group, by its id. */
export type EntriesOf = (addressGroupId: string) => readonly string[];

type Class = 'tcp' | 'udp' | 'icmp' | 'icmpv6' | 'other';
const classesOf = (family: Family): readonly Class[] =>
  family === 4 ? ['tcp', 'udp', 'icmp', 'other'] : ['tcp', 'udp', 'icmpv6', 'other'];

/** What a rule fits, of one family: of one class of protocols, or of any. */
interface Box {
  classes: 'any' | Class;
  /** Ports of tcp and udp; of ICMP 256 times the type, and the code. */
  numbers: Span;
  source: Span[];
  destination: Span[];
}

interface Piece {
  classes: 'any' | Class;
  numbers: Span[];
  source: Span[];
  destination: Span[];
}

const allNumbers: Span = [0n, 65_535n];

function numbersOf({ fromPort, toPort, icmpType, icmpCode }: PolicyRule): Span {
  if (fromPort !== undefined) return [BigInt(fromPort), BigInt(toPort ?? fromPort)];
  if (icmpType === undefined) return allNumbers;
  const first = BigInt(icmpType * 256);
  return icmpCode === undefined ? [first, first + 255n] : [first + BigInt(icmpCode), first + BigInt(icmpCode)];
}

function endOf(family: Family, end: PolicyEnd | undefined, entriesOf: EntriesOf): Span[] {
  if (end?.cidr !== undefined) return [spanOf(end.cidr)];
  if (end?.addressGroupId !== undefined) return union(entriesOf(end.addressGroupId).map(spanOf));
  return everywhere(family);
}

const boxOf = (rule: PolicyRule, family: Family, entriesOf: EntriesOf): Box => ({
  classes: rule.protocol,
  numbers: numbersOf(rule),
  source: endOf(family, rule.source, entriesOf),
  destination: endOf(family, rule.destination, entriesOf),
});

type Ends = Pick<Box, 'source' | 'destination'>;

const meet = (one: Ends, other: Ends): boolean =>
  intersection(one.source, other.source).length > 0 && intersection(one.destination, other.destination).length > 0;

/** What is left of pairs of addresses when those of the others are taken away. */
function without(whole: Ends, others: readonly Ends[]): Ends[] {
  let left = [whole];
  for (const other of others) {
    left = left.flatMap((one) => {
      if (!meet(one, other)) return [one];
      const outside = { ...one, source: difference(one.source, other.source) };
      const inside = {
        source: intersection(one.source, other.source),
        destination: difference(one.destination, other.destination),
      };
      return [outside, inside].filter(({ source, destination }) => source.length > 0 && destination.length > 0);
    });
    if (left.length > flowsMax) throw new TooIntricate();
  }
  return left;
}

/** What of a box no earlier allow takes, of one class. */
function piecesOf(box: Box, classes: Class, allows: readonly Box[]): Piece[] {
  const numbers = box.classes === 'any' ? allNumbers : box.numbers;
  const near = allows.filter((allow) => intersection([numbers], [allow.numbers]).length > 0);
  const edges = new Set([numbers[0]]);
  for (const allow of near)
    for (const edge of [allow.numbers[0], allow.numbers[1] + 1n])
      if (edge > numbers[0] && edge <= numbers[1]) edges.add(edge);
  const starts = [...edges].sort((a, b) => (a < b ? -1 : 1));
  /** Between two edges the same allows hold; where they are the same again, it is one piece. */
  const alike = new Map<string, { spans: Span[]; holding: Box[] }>();
  for (const [place, first] of starts.entries()) {
    const last = (starts[place + 1] ?? numbers[1] + 1n) - 1n;
    const holding = near.filter((allow) => allow.numbers[0] <= first && last <= allow.numbers[1]);
    const key = holding.map((allow) => allows.indexOf(allow)).join();
    const known = alike.get(key) ?? { spans: [], holding };
    known.spans.push([first, last]);
    alike.set(key, known);
  }
  return [...alike.values()].flatMap(({ spans, holding }) =>
    without(box, holding).map((ends) => ({ ...ends, classes, numbers: union(spans) })),
  );
}

function leftOf(box: Box, family: Family, allows: readonly Box[]): Piece[] {
  if (box.source.length === 0 || box.destination.length === 0) return [];
  const near = allows.filter((allow) => meet(box, allow));
  if (box.classes !== 'any') {
    const classes = box.classes;
    return piecesOf(
      box,
      classes,
      near.filter((allow) => allow.classes === 'any' || allow.classes === classes),
    );
  }
  if (near.every(({ classes }) => classes === 'any'))
    return without(box, near).map((ends) => ({ ...ends, classes: 'any', numbers: [allNumbers] }));
  return classesOf(family).flatMap((classes) =>
    piecesOf(
      box,
      classes,
      near.filter((allow) => allow.classes === 'any' || allow.classes === classes),
    ),
  );
}

/** Protocols of a family that have no name here. OVN compares them for equality alone. */
const otherProtocols = (family: Family): number[] => {
  const named = new Set([6, 17, family === 4 ? 1 : 58]);
  return Array.from({ length: 256 }, (_, number) => number).filter((number) => !named.has(number));
};

const isWhole = (spans: readonly Span[], whole: Span): boolean =>
  spans.length === 1 && spans[0]?.[0] === whole[0] && spans[0]?.[1] === whole[1];

const among = (field: string, values: readonly (string | number)[]): string =>
  values.length === 1 ? `${field} == ${values[0]}` : `${field} == {${values.join(', ')}}`;

interface Term {
  match: string;
  flows: number;
}

function portTerms(name: string, spans: readonly Span[]): Term[] {
  if (isWhole(spans, allNumbers)) return [{ match: name, flows: 1 }];
  const field = `${name}.dst`;
  const terms = spans.map(([first, last]) =>
    first === last ? `${field} == ${first}` : `${field} >= ${first} && ${field} <= ${last}`,
  );
  const match = terms.length === 1 ? (terms[0] ?? '') : `(${terms.map((term) => `(${term})`).join(' || ')})`;
  return [{ match: `${name} && ${match}`, flows: 8 * spans.length }];
}

/** Types and codes are compared for equality alone. */
function icmpTerms(name: string, spans: readonly Span[]): Term[] {
  if (isWhole(spans, allNumbers)) return [{ match: name, flows: 1 }];
  const whole: number[] = [];
  const codes = new Map<string, number[]>();
  for (let type = 0; type < 256; type++) {
    const first = BigInt(type * 256);
    const here = intersection(spans, [[first, first + 255n]]);
    if (here.length === 0) continue;
    if (isWhole(here, [first, first + 255n])) whole.push(type);
    else {
      const key = here.map(([from, to]) => `${from - first}-${to - first}`).join();
      codes.set(key, [...(codes.get(key) ?? []), type]);
    }
  }
  const terms: Term[] =
    whole.length > 0 ? [{ match: `${name} && ${among(`${name}.type`, whole)}`, flows: whole.length }] : [];
  for (const [key, types] of codes) {
    const numbers = key.split(',').flatMap((range) => {
      const [from = 0, to = 0] = range.split('-').map(Number);
      return Array.from({ length: to - from + 1 }, (_, index) => from + index);
    });
    terms.push({
      match: `${name} && ${among(`${name}.type`, types)} && ${among(`${name}.code`, numbers)}`,
      flows: types.length * numbers.length,
    });
  }
  return terms;
}

function classTerms(family: Family, { classes, numbers }: Piece): Term[] {
  if (classes === 'any') return [{ match: '', flows: 1 }];
  if (classes === 'tcp' || classes === 'udp') return portTerms(classes, numbers);
  if (classes !== 'other') return icmpTerms(`icmp${family}`, numbers);
  const protocols = otherProtocols(family);
  return [{ match: among('ip.proto', protocols), flows: protocols.length }];
}

function addressTerm(family: Family, side: 'src' | 'dst', spans: readonly Span[]): Term {
  if (isWhole(spans, everywhere(family)[0] as Span)) return { match: '', flows: 1 };
  const networks = networksOf(family, spans);
  return { match: among(`ip${family}.${side}`, networks), flows: networks.length };
}

/** How guests ask for an address, and the policy does not keep them from it: DHCP (RFC 2131), and DHCPv6 (RFC 8415). */
const addressRequests = [
  'ip4 && ip4.dst == 255.255.255.255 && udp && udp.src == 68 && udp.dst == 67',
  'ip6 && ip6.dst == ff02::1:2 && udp && udp.src == 546 && udp.dst == 547',
];

/** The rules of a direction that decide anything, the first to decide first, each with its place in the list. */
export const inForce = (
  rules: readonly PolicyRule[],
  direction: PolicyRule['direction'],
): { rule: PolicyRule; index: number }[] =>
  rules
    .map((rule, index) => ({ rule, index }))
    .filter(({ rule }) => rule.enabled !== false && rule.direction === direction)
    .sort((one, other) => one.rule.priority - other.rule.priority);

/**
 * The rows of a policy, for the ports of a port group. A packet that none of them meets is allowed by the policy.
 *
 * @throws TooIntricate when that would be more than hosts are given
 */
export function firewallRows(
  group: string,
  { rules, defaults }: { rules: readonly PolicyRule[]; defaults: PolicyDefaults },
  entriesOf: EntriesOf,
): FirewallRow[] {
  let flows = 0;
  const rowsOf = (direction: PolicyRule['direction']): FirewallRow[] => {
    const port = direction === 'in' ? `outport == @${group}` : `inport == @${group}`;
    const ordered = inForce(rules, direction);
    const all: { rule: PolicyRule; index: number | null }[] = [
      ...ordered,
      {
        rule: { priority: 65_536, direction, protocol: 'any', action: defaults[direction] },
        index: null,
      },
    ];
    const rows: FirewallRow[] = [];
    const allows: Record<Family, Box[]> = { 4: [], 6: [] };
    for (const [rank, { rule, index }] of all.entries()) {
      for (const family of familiesOf(rule, (id) => familyOfEntries(entriesOf(id)))) {
        const box = boxOf(rule, family, entriesOf);
        if (rule.action === 'allow') {
          allows[family].push(box);
          continue;
        }
        for (const piece of leftOf(box, family, allows[family])) {
          const source = addressTerm(family, 'src', piece.source);
          const destination = addressTerm(family, 'dst', piece.destination);
          for (const term of classTerms(family, piece)) {
            // OVN asks for source and destination one after the other, by a conjunction of flows, and for each protocol anew.
            flows += term.flows * (source.flows + destination.flows);
            if (flows > flowsMax) throw new TooIntricate();
            rows.push({
              direction: direction === 'in' ? 'to-lport' : 'from-lport',
              priority: firewallPriorities.rules + all.length - 1 - rank,
              match: [port, `ip${family}`, term.match, source.match, destination.match].filter(Boolean).join(' && '),
              action: rule.action === 'reject' ? 'reject' : 'drop',
              logged: rule.log && index !== null ? `${group}-${direction}-${rule.priority}` : null,
            });
          }
        }
      }
    }
    if (direction === 'in' || rows.length === 0) return rows;
    return [
      ...addressRequests.map(
        (request): FirewallRow => ({
          direction: 'from-lport',
          priority: firewallPriorities.addressRequest,
          match: `${port} && ${request}`,
          action: 'allow',
          logged: null,
        }),
      ),
      ...rows,
    ];
  };
  return [...rowsOf('in'), ...rowsOf('out')];
}

/** A group without entries fits nothing, of whatever family. */
const familyOfEntries = ([first]: readonly string[]): Family | undefined =>
  first === undefined ? undefined : first.includes(':') ? 6 : 4;
