/** Limits, and what they are compared with: the sum over living records. */
import type { counters } from '../model/tenancy/quota.ts';
import { type Statement, written } from './statement.ts';

export type Counter = (typeof counters)[number];
export type LimitedScope = 'domain' | 'account' | 'project';

/** What is destroyed needs no processor and no memory until it is recovered; its disks stay. */
const notDestroyed = `FILTER (WHERE t.state NOT IN ('destroyed', 'expunging'))`;

/** The largest size that a volume will have while the resizes and reverts that were accepted come to their end. */
const sizeToBe = `greatest(t."sizeGib", (SELECT max((o.input->>'sizeGib')::int) FROM "operation" o
  WHERE o."targetId" = t.id AND o.type IN ('volume.resize', 'volume.revert') AND o."endedAt" IS NULL))`;

export const sizeToBeOf = written<{ sizeGib: number }, { volumeId: string }>(
  `SELECT ${sizeToBe} AS "sizeGib" FROM "volume" t WHERE t.id = $volumeId`,
);

/** Table and expression that each counter sums, and whose the rows are; a project has no limit of what its account holds. */
export const sums: Record<Counter, { table: string; expression: string; of: 'project' | 'account' }> = {
  instances: { table: 'instance', expression: 'count(*)', of: 'project' },
  vcpus: { table: 'instance', expression: `coalesce(sum(t.vcpus) ${notDestroyed}, 0)`, of: 'project' },
  memoryMib: { table: 'instance', expression: `coalesce(sum(t."memoryMib") ${notDestroyed}, 0)`, of: 'project' },
  volumes: { table: 'volume', expression: 'count(*)', of: 'project' },
  volumeGib: { table: 'volume', expression: `coalesce(sum(${sizeToBe}), 0)`, of: 'project' },
  snapshots: { table: 'snapshot', expression: 'count(*)', of: 'project' },
  images: { table: 'image', expression: 'count(*)', of: 'project' },
  floatingIps: { table: 'floatingIp', expression: 'count(*)', of: 'project' },
  portForwards: { table: 'portForward', expression: 'count(*)', of: 'project' },
  targetGroups: { table: 'targetGroup', expression: 'count(*)', of: 'project' },
  loadBalancers: { table: 'loadBalancer', expression: 'count(*)', of: 'project' },
  listeners: { table: 'listener', expression: 'count(*)', of: 'project' },
  vpcs: { table: 'vpc', expression: 'count(*)', of: 'project' },
  routeTables: { table: 'routeTable', expression: 'count(*)', of: 'project' },
  networks: { table: 'network', expression: 'count(*)', of: 'project' },
  subnets: { table: 'subnet', expression: 'count(*)', of: 'project' },
  networkInterfaces: { table: 'networkInterface', expression: 'count(*)', of: 'project' },
  addressGroups: { table: 'addressGroup', expression: 'count(*)', of: 'project' },
  certificates: { table: 'certificate', expression: 'count(*)', of: 'project' },
  securityGroups: { table: 'securityGroup', expression: 'count(*)', of: 'project' },
  firewallPolicies: { table: 'firewallPolicy', expression: 'count(*)', of: 'project' },
  schedules: { table: 'schedule', expression: 'count(*)', of: 'project' },
  keyPairs: { table: 'keyPair', expression: 'count(*)', of: 'project' },
  projects: { table: 'project', expression: 'count(*)', of: 'account' },
  users: { table: 'user', expression: 'count(*)', of: 'account' },
  apiKeys: { table: 'apiKey', expression: 'count(*)', of: 'account' },
};

const accountsBelow = `SELECT a.id FROM "account" a JOIN "domain" d ON d.id = a."domainId"
            JOIN "domain" top ON top.id = $scopeId AND (d.path = top.path OR d.path LIKE top.path || '/%')`;

/** The condition that a row is within a scope, for rows of a project and for rows of an account. */
const within: Record<'project' | 'account', Partial<Record<LimitedScope, string>>> = {
  project: {
    project: `t."projectId" = $scopeId`,
    account: `t."projectId" IN (SELECT id FROM "project" WHERE "accountId" = $scopeId)`,
    domain: `t."projectId" IN (SELECT id FROM "project" WHERE "accountId" IN (${accountsBelow}))`,
  },
  account: { account: `t."accountId" = $scopeId`, domain: `t."accountId" IN (${accountsBelow})` },
};

type Usage = Statement<{ scopeId: string }, { used: string }>;

const usages = new Map<string, Usage>(
  Object.entries(sums).flatMap(([counter, { table, expression, of }]) =>
    Object.entries(within[of]).map(([scopeKind, condition]): [string, Usage] => [
      `${counter} ${scopeKind}`,
      written(`SELECT ${expression} AS used FROM "${table}" t WHERE t."deletedAt" IS NULL AND ${condition}`),
    ]),
  ),
);

/** How much of a counter is used in a scope; none where it is not counted there. */
export const usageOf = (counter: Counter, scopeKind: LimitedScope): Usage | undefined =>
  usages.get(`${counter} ${scopeKind}`);

export interface Limit {
  id: string;
  scopeKind: LimitedScope;
  scopeId: string;
  counter: Counter;
  limit: number;
}

const limitsAbove = (whose: string, own: string) =>
  written<Limit, { id: string; counters: string[] }>(
    `SELECT q.id, q."scopeKind", q."scopeId", q.counter, q."limit" FROM "quota" q, ${whose} JOIN "domain" d ON d.id = a."domainId"
     WHERE ${own} = $id AND q."deletedAt" IS NULL AND q.counter = ANY($counters)
       AND (q."scopeId" = ${own} OR q."scopeId" = a.id OR q."scopeId"::text = ANY(string_to_array(d.path, '/')))
     ORDER BY q.id FOR UPDATE OF q`,
  );

/** The limits at a project, its account and the domains above it, locked in one order; or at an account and above. */
export const limitsAboveProject = limitsAbove(`"project" p JOIN "account" a ON a.id = p."accountId"`, 'p.id');
export const limitsAboveAccount = limitsAbove(`"account" a`, 'a.id');
