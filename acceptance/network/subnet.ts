import { from, statement, type Values } from '../../database/statement.ts';
import { keepRange, userOfRange, vpcOfNetwork } from '../../database/vpcs.ts';
import { kindOf } from '../../model/kinds.ts';
import { Problem } from '../../runtime/problem.ts';
import { placeOf } from '../caller.ts';
import type { Accepting, Hooks } from '../change.ts';
import { invalid } from '../violation.ts';
import { covers, type Range, rangeOf, toAddress, toNumber } from './cidr.ts';

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
function networkRange(cidr: string): Range {
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
  const { first, last } = networkRange(cidr);
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

async function accept({ tx, row, input, references, rows }: Accepting): Promise<void> {
  const { networkId } = input as unknown as Input;
  const network = references.get(`network/${networkId}`);
  const { gateway, ranges } = subnetPlan(input as unknown as Input);
  if (network?.external) {
    // Nobody asks for an address there: routers and floating IPs are given theirs.
    if (input.dhcp === true) throw invalid('dhcp', 'is not for a public range: no instance is plugged in there');
    row.dhcp = false;
    const router = toNumber(gateway);
    const at = ranges.findIndex(({ first, last }) => first <= router && router <= last);
    if (((input.allocationRanges as unknown[] | null | undefined) ?? []).length > 0 && at >= 0)
      throw invalid('gateway', 'lies in a range that addresses are given out of');
  }
  const [vpc] = network?.vpcId ? await vpcOfNetwork(tx, { networkId }) : [];
  const { cidr, routeTableId } = input as { cidr: string; routeTableId?: string | null };
  if (vpc && !vpc.cidrs.some((range) => covers(range, cidr)))
    throw invalid('cidr', `lies in no range of its VPC: ${vpc.cidrs.join(', ')}`);
  if (routeTableId && references.get(`routeTable/${routeTableId}`)?.vpcId !== vpc?.id)
    throw invalid('routeTableId', 'is no route table of the VPC of the network');
  // Subnets of a network are made one after the other: two that overlap would wait for each other until PostgreSQL ends one by force.
  await oneAfterTheOther(tx, { networkId });
  Object.assign(row, {
    gateway,
    zoneId: network?.zoneId,
    vpcId: vpc?.id ?? null,
    external: network?.external === true,
    physicalNetworkId: network?.type === 'overlay' ? null : (network?.physicalNetworkId ?? null),
  });
  rows.subnetCursor = ranges.map((range, place) => ({
    subnetId: row.id,
    place,
    first: toAddress(range.first),
    next: toAddress(range.first),
    last: toAddress(range.last),
  }));
  // The gateway is nobody's: it is taken for the subnet itself.
  rows.subnetAddress = [{ subnetId: row.id, address: gateway, networkInterfaceId: row.id }];
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
};
