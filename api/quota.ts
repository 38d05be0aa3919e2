/**
 * Limits of countable things. Usage is the sum over living records, taken under the lock of the limit's own row and only at
 * scopes that have a limit: without limits nobody waits for anybody, and there is no counter that could drift.
 */
import { type Client, type Rows, run } from '../database/database.ts';
import { Problem } from '../runtime/problem.ts';

/** Table and expression that each counter sums. */
const sums: Record<string, { table: string; expression: string }> = {
  instances: { table: 'instance', expression: 'count(*)' },
  vcpus: { table: 'instance', expression: 'coalesce(sum(t.vcpus), 0)' },
  memoryMib: { table: 'instance', expression: 'coalesce(sum(t."memoryMib"), 0)' },
  volumes: { table: 'volume', expression: 'count(*)' },
  volumeGib: { table: 'volume', expression: 'coalesce(sum(t."sizeGib"), 0)' },
  snapshots: { table: 'snapshot', expression: 'count(*)' },
  images: { table: 'image', expression: 'count(*)' },
  networks: { table: 'network', expression: 'count(*)' },
  subnets: { table: 'subnet', expression: 'count(*)' },
  networkInterfaces: { table: 'networkInterface', expression: 'count(*)' },
  securityGroups: { table: 'securityGroup', expression: 'count(*)' },
  keyPairs: { table: 'keyPair', expression: 'count(*)' },
};

interface Limit {
  id: string;
  scopeKind: 'domain' | 'account' | 'project';
  scopeId: string;
  counter: string;
  limit: number;
}

const asked = (counter: string, rows: Record<string, unknown>[]): number =>
  counter === 'vcpus' || counter === 'memoryMib' || counter === 'volumeGib'
    ? rows.reduce((sum, row) => sum + Number(row[counter === 'volumeGib' ? 'sizeGib' : counter] ?? 0), 0)
    : rows.length;

const within: Record<Limit['scopeKind'], string> = {
  project: `t."projectId" = $1`,
  account: `t."projectId" IN (SELECT id FROM "project" WHERE "accountId" = $1)`,
  domain: `t."projectId" IN (SELECT p.id FROM "project" p JOIN "account" a ON a.id = p."accountId" JOIN "domain" d ON d.id = a."domainId"
            JOIN "domain" top ON top.id = $1 AND (d.path = top.path OR d.path LIKE top.path || '/%'))`,
};

/** Called last in the transaction, after the rows are there. Answers what was asked of each counter. */
export async function enforceQuota(tx: Client, projectId: string, rows: Rows): Promise<Record<string, number>> {
  const delta = Object.fromEntries(
    Object.entries(sums)
      .map(([counter, { table }]) => [counter, asked(counter, rows[table] ?? [])] as const)
      .filter(([, amount]) => amount > 0),
  );
  if (Object.keys(delta).length > 0) await enforce(tx, projectId, delta, { recorded: true });
  return delta;
}

/** Checks that what the records hold, with `delta` already in them or still to come, is within every limit above the project. */
export async function enforce(
  tx: Client,
  projectId: string,
  delta: Record<string, number>,
  { recorded }: { recorded: boolean },
): Promise<void> {
  const limits = await run<Limit>(
    tx,
    `SELECT q.id, q."scopeKind", q."scopeId", q.counter, q."limit" FROM "quota" q, "project" p JOIN "account" a ON a.id = p."accountId" JOIN "domain" d ON d.id = a."domainId"
     WHERE p.id = $1 AND q."deletedAt" IS NULL AND q.counter = ANY($2)
       AND (q."scopeId" = p.id OR q."scopeId" = a.id OR q."scopeId"::text = ANY(string_to_array(d.path, '/')))
     ORDER BY q.id FOR UPDATE OF q`,
    [projectId, Object.keys(delta)],
  );
  for (const { scopeKind, scopeId, counter, limit } of limits) {
    const sum = sums[counter];
    if (!sum) continue;
    const [row] = await run<{ used: string }>(
      tx,
      `SELECT ${sum.expression} AS used FROM "${sum.table}" t WHERE t."deletedAt" IS NULL AND ${within[scopeKind]}`,
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
