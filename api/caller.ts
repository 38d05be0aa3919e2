/** Who asks, and what they may: API keys, role bindings, and what follows from them for single changes and for reads. */
import { timingSafeEqual } from 'node:crypto';
import type { Database } from '../database/database.ts';
import { run } from '../database/database.ts';
import { hashOf, wellKnown } from '../database/installation.ts';
import type { Kind } from '../model/kind.ts';
import { allKinds } from '../model/kinds.ts';
import { Problem } from '../runtime/problem.ts';
import type { Visible } from './query/compile.ts';
import { identifier, or, type Sql, sql } from './query/sql.ts';

interface Rule {
  effect: 'allow' | 'deny';
  pattern: string;
}

interface Grant {
  targetKind: string;
  targetId: string | null;
  rules: Rule[];
}

export interface Caller {
  userId: string;
  apiKeyId: string;
  accountId: string;
  /** The account may keep what it has and make nothing new. */
  locked: boolean;
  /** Patterns that narrow what the key may do. */
  keyPatterns: string[];
  grants: Grant[];
  /** Project → its account and the domains above, for every project that a binding reaches. */
  reach: Map<string, Reach>;
  /** Memo of `scopesOf` by permission. */
  scopes: Map<string, Scopes>;
}

interface Reach {
  accounts: string[];
  domains: string[];
  projects: string[];
}

/** Where a permission is held. */
export interface Scopes {
  platform: boolean;
  domains: Set<string>;
  accounts: Set<string>;
  projects: Set<string>;
  resources: Set<string>;
  /** Held anywhere at all; enough to read catalogues. */
  anywhere: boolean;
}

const matches = (pattern: string, permission: string): boolean => {
  if (pattern === '*' || pattern === '*.*') return true;
  const [kind, verb] = permission.split('.');
  const [wantedKind, wantedVerb] = pattern.split('.');
  return (
    (wantedKind === '*' || wantedKind === kind) &&
    (wantedVerb === '*' || wantedVerb === undefined || wantedVerb === verb)
  );
};

/** Where the caller holds a permission, or all that a pattern allows; a deny in a role takes away what that binding would give. */
export function scopesOf(caller: Caller, permission: string): Scopes {
  const known = caller.scopes.get(permission);
  if (known) return known;
  const scopes: Scopes = {
    platform: false,
    domains: new Set(),
    accounts: new Set(),
    projects: new Set(),
    resources: new Set(),
    anywhere: false,
  };
  caller.scopes.set(permission, scopes);
  if (!caller.keyPatterns.some((pattern) => matches(pattern, permission))) return scopes;
  for (const grant of caller.grants) {
    // Of a pattern, whatever is denied of it is missing: who may not delete does not hold `instance.*`.
    const denied = grant.rules.some(
      ({ effect, pattern }) => effect === 'deny' && (matches(pattern, permission) || matches(permission, pattern)),
    );
    if (denied || !grant.rules.some(({ pattern }) => matches(pattern, permission))) continue;
    scopes.anywhere = true;
    if (grant.targetKind === 'platform') scopes.platform = true;
    else if (grant.targetId) {
      const reach = caller.reach.get(`${grant.targetKind}/${grant.targetId}`);
      for (const id of reach?.domains ?? []) scopes.domains.add(id);
      for (const id of reach?.accounts ?? []) scopes.accounts.add(id);
      for (const id of reach?.projects ?? []) scopes.projects.add(id);
      if (!reach) scopes.resources.add(grant.targetId);
    }
  }
  return scopes;
}

const visibleMemo = new WeakMap<Caller, Partial<Record<'get' | 'list', Visible>>>();

/** The condition that keeps rows of a kind out that this caller may not know of; the same function for the same caller. */
export function visibleTo(caller: Caller, verb: 'get' | 'list'): Visible {
  let known = visibleMemo.get(caller);
  if (!known) {
    known = {};
    visibleMemo.set(caller, known);
  }
  known[verb] ??= conditionFor(caller, verb);
  return known[verb];
}

const conditionFor =
  (caller: Caller, verb: 'get' | 'list'): Visible =>
  (kind: Kind, alias: Sql): Sql | null => {
    const scopes = scopesOf(caller, `${kind.name}.${verb}`);
    if (scopes.platform) return null;
    if (!scopes.anywhere) return sql`FALSE`;
    const shared = sql`${alias}.id = ANY(${[...scopes.resources]}::uuid[])`;
    const projects = [...scopes.projects];
    // One project is compared, several are looked up: only a comparison lets a generic plan use the index of the order.
    const inProjects =
      projects.length === 1
        ? sql`${alias}."projectId" = ${projects[0]}::uuid`
        : sql`${alias}."projectId" = ANY(${projects}::uuid[])`;
    const accounts = [...scopes.accounts];
    const domains = [...scopes.domains];
    if (kind.scope === 'project') {
      const own = scopes.resources.size === 0 ? inProjects : sql`(${inProjects} OR ${shared})`;
      return kind.catalogue ? sql`(${own} OR ${alias}.visibility = 'public')` : own;
    }
    if (kind.name === 'project')
      return sql`(${alias}.id = ANY(${projects}::uuid[]) OR ${alias}."accountId" = ANY(${accounts}::uuid[]))`;
    if (kind.name === 'apiKey')
      return sql`(${alias}."accountId" = ANY(${accounts}::uuid[]) OR ${alias}."userId" = ${caller.userId}::uuid)`;
    if (kind.name === 'user')
      return sql`(${alias}."accountId" = ANY(${accounts}::uuid[]) OR ${alias}.id = ${caller.userId}::uuid)`;
    if (kind.name === 'account') return sql`${alias}.id = ANY(${[...accounts, caller.accountId]}::uuid[])`;
    if (kind.name === 'domain') return sql`${alias}.id = ANY(${domains}::uuid[])`;
    if (kind.name === 'quota') return sql`${alias}."scopeId" = ANY(${[...projects, ...accounts, ...domains]}::uuid[])`;
    if (kind.name === 'roleBinding') {
      const places = sql`${alias}."targetId" = ANY(${[...projects, ...accounts, ...domains]}::uuid[]) OR ${alias}."subjectId" = ${caller.userId}::uuid`;
      const shares = allKinds
        .filter(({ scope, readOnly }) => scope === 'project' && !readOnly)
        .map(
          ({ name }) =>
            sql`EXISTS (SELECT 1 FROM ${identifier(name)} s WHERE s.id = ${alias}."targetId" AND ${alias}."targetKind" = ${name} AND s."projectId" = ANY(${projects}::uuid[]))`,
        );
      return sql`(${places} OR ${or(shares)})`;
    }
    if (kind.catalogue) {
      if (kind.fields.visibility) return sql`(${alias}.visibility = 'public' OR ${shared})`;
      return null;
    }
    return sql`FALSE`;
  };

export interface Place {
  projectId?: string | null;
  accountId?: string | null;
  domainId?: string | null;
  resourceId?: string | null;
}

/** Where a record lives: what a permission must be held at to touch it. */
export function placeOf(kind: Kind, row: Record<string, unknown> & { id: string }): Place {
  const text = (value: unknown): string | null => (typeof value === 'string' ? value : null);
  if (kind.name === 'project') return { projectId: row.id, accountId: text(row.accountId), resourceId: row.id };
  if (kind.name === 'account') return { accountId: row.id, domainId: text(row.domainId), resourceId: row.id };
  if (kind.name === 'domain') return { domainId: row.id, resourceId: row.id };
  return {
    projectId: text(row.projectId),
    accountId: text(row.accountId),
    domainId: text(row.domainId),
    resourceId: row.id,
  };
}

/** Whether the caller holds the permission for something at this place; for a pattern, all that it allows. */
export function may(caller: Caller, permission: string, place: Place): boolean {
  const scopes = scopesOf(caller, permission);
  return (
    scopes.platform ||
    (place.projectId != null && scopes.projects.has(place.projectId)) ||
    (place.accountId != null && scopes.accounts.has(place.accountId)) ||
    (place.domainId != null && scopes.domains.has(place.domainId)) ||
    (place.resourceId != null && scopes.resources.has(place.resourceId))
  );
}

/** Whether the key that is used allows all that the pattern does, whatever its user may. */
export const keyAllows = ({ keyPatterns }: Caller, pattern: string): boolean =>
  keyPatterns.some((held) => matches(held, pattern));

/** Whether the caller's right is bound high enough to set what operators set. */
export function isOperator(caller: Caller, permission: string): boolean {
  const scopes = scopesOf(caller, permission);
  return scopes.platform || scopes.domains.size > 0;
}

/** The platform itself, when it acts on what it observed. */
export const systemCaller = (): Caller => ({
  userId: wellKnown.platform,
  apiKeyId: wellKnown.platform,
  accountId: wellKnown.rootAccount,
  locked: false,
  keyPatterns: ['*'],
  grants: [{ targetKind: 'platform', targetId: null, rules: [{ effect: 'allow', pattern: '*.*' }] }],
  reach: new Map(),
  scopes: new Map(),
});

interface KeyRow {
  id: string;
  secretHash: string;
  userId: string;
  accountId: string;
  permissions: string[];
  allowedCidrs: string[];
  accountState: string;
  userState: string;
  live: boolean;
}

/** Seconds a verified key is remembered; a change of keys, roles, bindings or tenants empties the memory at once. */
const rememberMs = 5_000;

export interface Authenticator {
  authenticate(authorization: string | undefined, sourceAddress: string): Promise<Caller>;
  /** Something that rights depend on has changed. */
  forget(): void;
}

export function authenticator(database: Database): Authenticator {
  const memory = new Map<string, { known: Promise<{ caller: Caller; cidrs: string[] }>; until: number }>();

  async function load(accessKey: string, secret: string): Promise<{ caller: Caller; cidrs: string[] }> {
    const refuse = (): never => {
      throw new Problem('UNAUTHENTICATED', 'the API key is unknown, expired or switched off');
    };
    const [key] = await run<KeyRow>(
      database.pool,
      `SELECT k.id, k."secretHash", k."userId", k."accountId", k.permissions, k."allowedCidrs", a.state AS "accountState", u.state AS "userState",
              (k.enabled AND (k."expiresAt" IS NULL OR k."expiresAt" > now())) AS live
       FROM "apiKey" k JOIN "user" u ON u.id = k."userId" AND u."deletedAt" IS NULL JOIN "account" a ON a.id = k."accountId" AND a."deletedAt" IS NULL
       WHERE k."accessKey" = $1 AND k."deletedAt" IS NULL`,
      [accessKey],
    );
    const given = Buffer.from(hashOf(secret));
    if (
      !key ||
      !timingSafeEqual(given, Buffer.from(key.secretHash.padEnd(given.length))) ||
      !key.live ||
      key.userState !== 'active'
    )
      return refuse();
    if (key.accountState === 'disabled') throw new Problem('ACCOUNT_SUSPENDED', 'the account is disabled');
    const grants = await run<Grant>(
      database.pool,
      `SELECT b."targetKind", b."targetId", r.permissions AS rules FROM "roleBinding" b JOIN "role" r ON r.id = b."roleId"
       WHERE b."deletedAt" IS NULL AND (b."expiresAt" IS NULL OR b."expiresAt" > now())
         AND ((b."subjectKind" = 'user' AND b."subjectId" = $1) OR (b."subjectKind" = 'account' AND b."subjectId" = $2) OR b."subjectKind" = 'everyone'
           OR (b."subjectKind" = 'project' AND b."subjectId" IN (
             SELECT "targetId" FROM "roleBinding" WHERE "subjectId" = $1 AND "targetKind" = 'project' AND "deletedAt" IS NULL)))`,
      [key.userId, key.accountId],
    );
    void run(
      database.pool,
      `UPDATE "apiKey" SET "lastUsedAt" = now() WHERE id = $1 AND ("lastUsedAt" IS NULL OR "lastUsedAt" < now() - interval '1 minute')`,
      [key.id],
    ).catch(() => {});
    return {
      caller: {
        userId: key.userId,
        apiKeyId: key.id,
        accountId: key.accountId,
        locked: key.accountState === 'locked',
        keyPatterns: key.permissions,
        grants,
        reach: await reachOf(database, grants),
        scopes: new Map(),
      },
      cidrs: key.allowedCidrs,
    };
  }

  return {
    async authenticate(authorization, sourceAddress) {
      const match = /^Bearer belay_([0-9a-f]{20})_([A-Za-z0-9_-]{43})$/.exec(authorization ?? '');
      if (!match?.[1] || !match[2])
        throw new Problem('UNAUTHENTICATED', 'give an API key: Authorization: Bearer belay_…');
      const token = match[0];
      let entry = memory.get(token);
      if (!entry || entry.until < Date.now()) {
        const mine = { known: load(match[1], match[2]), until: Date.now() + rememberMs };
        if (memory.size > 10_000) memory.clear();
        memory.set(token, mine);
        // What failed is not remembered; those who wait for it meet the failure themselves.
        mine.known.catch(() => {
          if (memory.get(token) === mine) memory.delete(token);
        });
        entry = mine;
      }
      const { caller, cidrs } = await entry.known;
      if (cidrs.length > 0 && !cidrs.some((cidr) => contains(cidr, sourceAddress)))
        throw new Problem('UNAUTHENTICATED', 'this API key may not be used from your address');
      return caller;
    },
    forget: () => memory.clear(),
  };
}

/** Everything below each target: a binding at a domain reaches its subdomains, their accounts and their projects. */
async function reachOf(database: Database, grants: Grant[]): Promise<Map<string, Reach>> {
  const reach = new Map<string, Reach>();
  for (const { targetKind, targetId } of grants) {
    const key = `${targetKind}/${targetId}`;
    if (!targetId || reach.has(key) || !['domain', 'account', 'project'].includes(targetKind)) continue;
    const rows = await run<{ domainId: string | null; accountId: string | null; projectId: string | null }>(
      database.pool,
      targetKind === 'domain'
        ? `SELECT d.id AS "domainId", a.id AS "accountId", p.id AS "projectId" FROM "domain" t JOIN "domain" d ON d.path = t.path OR d.path LIKE t.path || '/%'
           LEFT JOIN "account" a ON a."domainId" = d.id LEFT JOIN "project" p ON p."accountId" = a.id WHERE t.id = $1`
        : targetKind === 'account'
          ? `SELECT NULL AS "domainId", a.id AS "accountId", p.id AS "projectId" FROM "account" a LEFT JOIN "project" p ON p."accountId" = a.id WHERE a.id = $1`
          : `SELECT NULL AS "domainId", NULL AS "accountId", p.id AS "projectId" FROM "project" p WHERE p.id = $1`,
      [targetId],
    );
    const unique = (key2: 'domainId' | 'accountId' | 'projectId'): string[] => [
      ...new Set(rows.flatMap((row) => row[key2] ?? [])),
    ];
    reach.set(key, { domains: unique('domainId'), accounts: unique('accountId'), projects: unique('projectId') });
  }
  return reach;
}

const numberOf = (address: string): number | null => {
  const parts = address.replace(/^::ffff:/, '').split('.');
  return parts.length === 4 ? parts.reduce((sum, part) => sum * 256 + Number(part), 0) : null;
};

function contains(cidr: string, address: string): boolean {
  const [network, bits] = cidr.split('/');
  const a = numberOf(network ?? '');
  const b = numberOf(address);
  if (a === null || b === null) return false;
  const size = 2 ** (32 - Number(bits));
  return Math.floor(a / size) === Math.floor(b / size);
}
