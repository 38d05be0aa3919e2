import { run } from '../../database/database.ts';
import { Problem } from '../../runtime/problem.ts';
import type { Accepting, Hooks } from '../change.ts';
import { invalid } from '../violation.ts';
import { rangeOf, toAddress, toNumber } from './cidr.ts';

interface Input {
  networkId: string;
  cidr: string;
  gateway?: string | null;
  allocationRanges?: { from: string; to: string }[];
}

async function accept({ tx, row, input, references, rows }: Accepting): Promise<void> {
  const { networkId, cidr, gateway, allocationRanges = [] } = input as unknown as Input;
  const range = rangeOf(cidr);
  const bits = Number(cidr.split('/')[1]);
  if (!range) throw invalid('cidr', 'is no IPv4 network: the host part must be zero');
  if (bits < 8 || bits > 29) throw invalid('cidr', 'must be between /8 and /29');
  const router = gateway ?? toAddress(range.first + 1);
  const inside = (address: string): boolean => toNumber(address) > range.first && toNumber(address) < range.last;
  if (!inside(router)) throw invalid('gateway', `is no address of ${cidr}`);
  const [overlap] = await run<{ id: string; cidr: string }>(
    tx,
    `SELECT id, cidr FROM "subnet" WHERE "networkId" = $1 AND "deletedAt" IS NULL AND cidr::cidr && $2::cidr LIMIT 1`,
    [networkId, cidr],
  );
  if (overlap)
    throw new Problem('ADDRESS_IN_USE', `cidr ${cidr} overlaps ${overlap.cidr} of subnet ${overlap.id}`, {
      violations: [{ field: 'cidr', message: `overlaps ${overlap.cidr}` }],
    });
  const parts =
    allocationRanges.length > 0
      ? allocationRanges
      : [{ from: toAddress(range.first + 1), to: toAddress(range.last - 1) }];
  for (const [index, part] of parts.entries())
    if (!inside(part.from) || !inside(part.to) || toNumber(part.from) > toNumber(part.to))
      throw invalid(`allocationRanges.${index}`, `does not lie in ${cidr}`);
  if (parts.length > 1) throw invalid('allocationRanges', 'may hold one range');
  Object.assign(row, { gateway: router, zoneId: references.get(`network/${networkId}`)?.zoneId });
  rows.subnetCursor = parts.map((part) => ({ subnetId: row.id, next: part.from, last: part.to }));
  // The gateway is nobody's: it is taken for the subnet itself.
  rows.subnetAddress = [{ subnetId: row.id, address: router, networkInterfaceId: row.id }];
}

export const subnetHooks: Hooks = { 'subnet.create': { accept } };
