/**
 * Limits of countable things. Usage is the sum over living records, taken under the lock of the limit's own row and only at
 * scopes that have a limit: without limits nobody waits for anybody, and there is no counter that could drift.
 */
import type { Rows } from '../database/database.ts';
import { type Counter, limitsAboveAccount, limitsAboveProject, sums, usageOf } from '../database/quota.ts';
import { Problem } from '../runtime/problem.ts';
import type { Accepting } from './change.ts';

/** Whether the counter can have a limit at a scope of this kind. */
export const countedAt = (counter: Counter, scopeKind: string): boolean =>
  scopeKind !== 'project' || sums[counter].of === 'project';

const asked = (counter: string, rows: Record<string, unknown>[]): number =>
  counter === 'vcpus' || counter === 'memoryMib' || counter === 'volumeGib'
    ? rows.reduce((sum, row) => sum + Number(row[counter === 'volumeGib' ? 'sizeGib' : counter] ?? 0), 0)
    : rows.length;

/** What new rows are counted for: their project with the account and the domains above it, or the account itself. */
export type Owner = { projectId: string } | { accountId: string };

/** Called last in the transaction, after the rows are there. Answers what was asked of each counter. */
export async function enforceQuota(accepting: Grows, owner: Owner, rows: Rows): Promise<Record<string, number>> {
  const delta = Object.fromEntries(
    Object.entries(sums)
      .map(([counter, { table }]) => [counter, asked(counter, rows[table] ?? [])] as const)
      .filter(([, amount]) => amount > 0),
  );
  if (Object.keys(delta).length > 0) await enforce(accepting, owner, delta, { recorded: true });
  return delta;
}

type Grows = Pick<Accepting, 'tx' | 'refuseLocked'>;

/**
 * Checks that what the records hold, with `delta` already in them or still to come, is within every limit above the owner. Whatever adds to what
 * an account uses comes by here, so that nothing does in a locked one.
 */
export async function enforce(
  { tx, refuseLocked }: Grows,
  owner: Owner,
  delta: Record<string, number>,
  { recorded }: { recorded: boolean },
): Promise<void> {
  await refuseLocked();
  const counters = Object.keys(delta);
  const limits =
    'projectId' in owner
      ? await limitsAboveProject(tx, { id: owner.projectId, counters })
      : await limitsAboveAccount(tx, { id: owner.accountId, counters });
  for (const { scopeKind, scopeId, counter, limit } of limits) {
    const [row] = (await usageOf(counter, scopeKind)?.(tx, { scopeId })) ?? [];
    const wanted = delta[counter] ?? 0;
    const total = Number(row?.used ?? 0) + (recorded ? 0 : wanted);
    if (total > limit)
      throw new Problem(
        'QUOTA_EXCEEDED',
        `${counter} of ${scopeKind} ${scopeId} are limited to ${limit}: ${total - wanted} are used, ${wanted} more were asked for`,
        {
          scope: { kind: scopeKind, id: scopeId },
          counter,
          limit,
          used: total - wanted,
          asked: wanted,
        },
      );
  }
}
