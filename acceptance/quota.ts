/**
 * Limits of countable things. Usage is the sum over living records, taken under the lock of the limit's own row and only at
 * scopes that have a limit: without limits nobody waits for anybody, and there is no counter that could drift.
 */
import { type Rows, run } from '../database/database.ts';
import type { counters } from '../model/tenancy/quota.ts';
import { Problem } from '../runtime/problem.ts';
import type { Accepting } from './change.ts';

export type Counter = (typeof counters)[number];

/** What is destroyed needs no processor and no memory until it is recovered; its disks stay. */
const notDestroyed = `FILTER (WHERE t.state NOT IN ('destroyed', 'expunging'))`;

/** The largest size that a volume will have while the resizes and reverts that were accepted come to their end. */
export const sizeToBe = `greatest(t."sizeGib", (SELECT max((o.input->>'sizeGib')::int) FROM "operation" o
  WHERE o."targetId" = t.id AND o.type IN ('volume.resize', 'volume.revert') AND o."endedAt" IS NULL))`;

/** Table and expression that each counter sums, and whose the rows are; a project has no limit of what its account holds. */
const sums: Record<Counter, { table: string; expression: string; of: 'project' | 'account' }> = {
  instances: { table: 'instance', expression: 'count(*)', of: 'project' },
  vcpus: { table: 'instance', expression: `coalesce(sum(t.vcpus) ${notDestroyed}, 0)`, of: 'project' },
  memoryMib: { table: 'instance', expression: `coalesce(sum(t."memoryMib") ${notDestroyed}, 0)`, of: 'project' },
  volumes: { table: 'volume', expression: 'count(*)', of: 'project' },
  volumeGib: { table: 'volume', expression: `coalesce(sum(${sizeToBe}), 0)`, of: 'project' },
  snapshots: { table: 'snapshot', expression: 'count(*)', of: 'project' },
  images: { table: 'image', expression: 'count(*)', of: 'project' },
  networks: { table: 'network', expression: 'count(*)', of: 'project' },
  subnets: { table: 'subnet', expression: 'count(*)', of: 'project' },
  networkInterfaces: { table: 'networkInterface', expression: 'count(*)', of: 'project' },
  securityGroups: { table: 'securityGroup', expression: 'count(*)', of: 'project' },
  schedules: { table: 'schedule', expression: 'count(*)', of: 'project' },
  keyPairs: { table: 'keyPair', expression: 'count(*)', of: 'project' },
  projects: { table: 'project', expression: 'count(*)', of: 'account' },
  users: { table: 'user', expression: 'count(*)', of: 'account' },
  apiKeys: { table: 'apiKey', expression: 'count(*)', of: 'account' },
};

/** Whether the counter can have a limit at a scope of this kind. */
export const countedAt = (counter: Counter, scopeKind: string): boolean =>
  scopeKind !== 'project' || sums[counter].of === 'project';

interface Limit {
  id: string;
  scopeKind: 'domain' | 'account' | 'project';
  scopeId: string;
  counter: Counter;
  limit: number;
}

const asked = (counter: string, rows: Record<string, unknown>[]): number =>
  counter === 'vcpus' || counter === 'memoryMib' || counter === 'volumeGib'
    ? rows.reduce((sum, row) => sum + Number(row[counter === 'volumeGib' ? 'sizeGib' : counter] ?? 0), 0)
    : rows.length;

const accountsBelow = `SELECT a.id FROM "account" a JOIN "domain" d ON d.id = a."domainId"
            JOIN "domain" top ON top.id = $1 AND (d.path = top.path OR d.path LIKE top.path || '/%')`;

/** The condition that a row is within a scope, for rows of a project and for rows of an account. */
const within: Record<'project' | 'account', Record<Limit['scopeKind'], string>> = {
  project: {
    project: `t."projectId" = $1`,
    account: `t."projectId" IN (SELECT id FROM "project" WHERE "accountId" = $1)`,
    domain: `t."projectId" IN (SELECT id FROM "project" WHERE "accountId" IN (${accountsBelow}))`,
  },
  account: { project: 'FALSE', account: `t."accountId" = $1`, domain: `t."accountId" IN (${accountsBelow})` },
};

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
  const [from, own, id] =
    'projectId' in owner
      ? [`"project" p JOIN "account" a ON a.id = p."accountId"`, 'p.id', owner.projectId]
      : [`"account" a`, 'a.id', owner.accountId];
  const limits = await run<Limit>(
    tx,
    `SELECT q.id, q."scopeKind", q."scopeId", q.counter, q."limit" FROM "quota" q, ${from} JOIN "domain" d ON d.id = a."domainId"
     WHERE ${own} = $1 AND q."deletedAt" IS NULL AND q.counter = ANY($2)
       AND (q."scopeId" = ${own} OR q."scopeId" = a.id OR q."scopeId"::text = ANY(string_to_array(d.path, '/')))
     ORDER BY q.id FOR UPDATE OF q`,
    [id, Object.keys(delta)],
  );
  for (const { scopeKind, scopeId, counter, limit } of limits) {
    const { table, expression, of } = sums[counter];
    const [row] = await run<{ used: string }>(
      tx,
      `SELECT ${expression} AS used FROM "${table}" t WHERE t."deletedAt" IS NULL AND ${within[of][scopeKind]}`,
      [scopeId],
    );
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
