/** API keys, and the rights that come with them. */
import { timingSafeEqual } from 'node:crypto';
import type { Caller, Grant, Reach, Rule } from '../acceptance/caller.ts';
import { covers } from '../acceptance/network/cidr.ts';
import type { Database } from '../database/database.ts';
import { run } from '../database/database.ts';
import { hashOf } from '../database/installation.ts';
import { Problem } from '../runtime/problem.ts';

interface KeyRow {
  id: string;
  secretHash: string;
  userId: string;
  accountId: string;
  permissions: string[];
  allowedCidrs: string[];
  expiresAt: Date | null;
  accountState: string;
  userState: string;
  live: boolean;
}

/** Milliseconds a verified key is remembered; a change of keys, roles, bindings or tenants empties the memory at once. */
const rememberMs = 5_000;

export interface Authenticator {
  authenticate(authorization: string | undefined, sourceAddress: string): Promise<Caller>;
  /** Something that rights depend on has changed. */
  forget(): void;
  /** Calls back whenever rights may have changed, until what it answers is called. */
  watch(listener: () => void): () => void;
}

const keysWhere = (condition: string): string =>
  `SELECT k.id, k."secretHash", k."userId", k."accountId", k.permissions, k."allowedCidrs", k."expiresAt", a.state AS "accountState", u.state AS "userState",
          (k.enabled AND (k."expiresAt" IS NULL OR k."expiresAt" > now())) AS live
   FROM "apiKey" k JOIN "user" u ON u.id = k."userId" AND u."deletedAt" IS NULL JOIN "account" a ON a.id = k."accountId" AND a."deletedAt" IS NULL
   WHERE ${condition} AND k."deletedAt" IS NULL`;

const callerWith = async (database: Database, key: KeyRow): Promise<Caller> => ({
  userId: key.userId,
  apiKeyId: key.id,
  accountId: key.accountId,
  accountState: key.accountState,
  key: { patterns: key.permissions, cidrs: key.allowedCidrs, endsAt: key.expiresAt?.getTime() ?? Infinity },
  ...(await rightsOf(database, key.userId, key.accountId)),
  scopes: new Map(),
});

/** Who a key would be let in as right now; null when it would not be. */
export async function holderOf(database: Database, apiKeyId: string): Promise<Caller | null> {
  const [key] = await run<KeyRow>(database.pool, keysWhere('k.id = $1'), [apiKeyId]);
  if (!key?.live || key.userState !== 'active' || key.accountState === 'disabled') return null;
  return callerWith(database, key);
}

export function authenticator(database: Database): Authenticator {
  const memory = new Map<string, { known: Promise<Caller>; until: number }>();
  const listeners = new Set<() => void>();

  async function load(accessKey: string, secret: string): Promise<Caller> {
    const refuse = (): never => {
      throw new Problem('UNAUTHENTICATED', 'the API key is unknown, expired or switched off');
    };
    const [key] = await run<KeyRow>(database.pool, keysWhere('k."accessKey" = $1'), [accessKey]);
    const given = Buffer.from(hashOf(secret));
    if (
      !key ||
      !timingSafeEqual(given, Buffer.from(key.secretHash.padEnd(given.length))) ||
      !key.live ||
      key.userState !== 'active'
    )
      return refuse();
    if (key.accountState === 'disabled') throw new Problem('ACCOUNT_SUSPENDED', 'the account is disabled');
    void run(
      database.pool,
      `UPDATE "apiKey" SET "lastUsedAt" = now() WHERE id = $1 AND ("lastUsedAt" IS NULL OR "lastUsedAt" < now() - interval '1 minute')`,
      [key.id],
    ).catch(() => {});
    return callerWith(database, key);
  }

  /** Remembers a caller for a while, and not beyond the end of anything that it may. */
  function remember(token: string, accessKey: string, secret: string): { known: Promise<Caller>; until: number } {
    const mine = { known: load(accessKey, secret), until: Date.now() + rememberMs };
    if (memory.size > 10_000) memory.clear();
    memory.set(token, mine);
    mine.known
      .then(({ key, grants }) => {
        mine.until = Math.min(mine.until, key.endsAt, ...grants.map(({ endsAt }) => endsAt));
      })
      // What failed is not remembered; those who wait for it meet the failure themselves.
      .catch(() => {
        if (memory.get(token) === mine) memory.delete(token);
      });
    return mine;
  }

  return {
    async authenticate(authorization, sourceAddress) {
      const match = /^Bearer belay_([0-9a-f]{20})_([A-Za-z0-9_-]{43})$/.exec(authorization ?? '');
      if (!match?.[1] || !match[2])
        throw new Problem('UNAUTHENTICATED', 'give an API key: Authorization: Bearer belay_…');
      const known = memory.get(match[0]);
      const entry = known && known.until > Date.now() ? known : remember(match[0], match[1], match[2]);
      const caller = await entry.known;
      const { cidrs } = caller.key;
      if (cidrs.length > 0 && !cidrs.some((cidr) => covers(cidr, sourceAddress.replace(/^::ffff:/, ''))))
        throw new Problem('UNAUTHENTICATED', 'this API key may not be used from your address');
      return caller;
    },
    forget() {
      memory.clear();
      for (const listener of listeners) listener();
    },
    watch(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
  };
}

interface RightsRow {
  grants: { kind: string; id: string | null; role: string; endsAt: number | null }[];
  roles: { id: string; rules: Rule[] }[];
  reach: ({ kind: string; id: string } & Reach)[];
  homeProjects: string[];
}

/**
 * All that a user was given, and everything below each target: a binding at a domain reaches its subdomains, their accounts and their projects.
 * One statement, however many bindings there are. What a project was given, its members have for as long as they are members.
 */
const rightsStatement = `
  WITH RECURSIVE living AS NOT MATERIALIZED (
    SELECT *, coalesce("expiresAt", 'infinity') AS ends FROM "roleBinding" WHERE "deletedAt" IS NULL AND state = 'active' AND ("expiresAt" IS NULL OR "expiresAt" > now())
  ), subject AS (
    SELECT 'user' AS kind, $1::uuid AS id, 'infinity'::timestamptz AS ends UNION ALL SELECT 'account', $2::uuid, 'infinity'
    UNION ALL SELECT 'project', "targetId", max(ends) FROM living WHERE "subjectKind" = 'user' AND "subjectId" = $1 AND "targetKind" = 'project' GROUP BY "targetId"
  ), granted AS (
    SELECT b."targetKind" AS kind, b."targetId" AS id, b."roleId" AS role, least(b.ends, s.ends) AS ends
    FROM subject s JOIN living b ON b."subjectId" = s.id AND b."subjectKind" = s.kind
    UNION ALL SELECT "targetKind", "targetId", "roleId", ends FROM living WHERE "subjectId" IS NULL AND "subjectKind" = 'everyone'
  ), target AS (SELECT DISTINCT kind, id FROM granted WHERE kind IN ('domain', 'account', 'project')
  ), tree AS (
    SELECT t.id AS top, t.id FROM target t WHERE t.kind = 'domain'
    UNION SELECT tree.top, d.id FROM tree JOIN "domain" d ON d."parentId" = tree.id
  ), accounts AS (
    SELECT 'domain' AS kind, tree.top AS top, a.id FROM tree JOIN "account" a ON a."domainId" = tree.id
    UNION ALL SELECT kind, id, id FROM target WHERE kind = 'account'
  ), below AS (
    SELECT 'domain' AS kind, top, id AS domain, NULL::uuid AS account, NULL::uuid AS project FROM tree
    UNION ALL SELECT kind, top, NULL, id, NULL FROM accounts
    UNION ALL SELECT a.kind, a.top, NULL, NULL, p.id FROM accounts a JOIN "project" p ON p."accountId" = a.id
    UNION ALL SELECT kind, id, NULL, NULL, id FROM target WHERE kind = 'project'
  ), reach AS (
    SELECT kind, top AS id, array_remove(array_agg(domain), NULL) AS domains, array_remove(array_agg(account), NULL) AS accounts,
           array_remove(array_agg(project), NULL) AS projects FROM below GROUP BY kind, top
  )
  SELECT coalesce((SELECT json_agg(json_build_object('kind', kind, 'id', id, 'role', role,
                     'endsAt', CASE WHEN ends < 'infinity' THEN extract(epoch FROM ends) * 1000 END)) FROM granted), '[]') AS grants,
         coalesce((SELECT json_agg(json_build_object('id', r.id, 'rules', r.permissions)) FROM "role" r
                   WHERE r.id IN (SELECT role FROM granted) AND r."deletedAt" IS NULL), '[]') AS roles,
         coalesce((SELECT json_agg(reach) FROM reach), '[]') AS reach,
         coalesce((SELECT json_agg(p.id) FROM "project" p WHERE p."accountId" = $2 AND p."deletedAt" IS NULL), '[]') AS "homeProjects"`;

async function rightsOf(
  database: Database,
  userId: string,
  accountId: string,
): Promise<Pick<Caller, 'grants' | 'reach' | 'homeProjects'>> {
  const [row] = await run<RightsRow>(database.pool, rightsStatement, [userId, accountId]);
  if (!row) throw new Error('the statement of rights answers one row');
  const roles = new Map(row.roles.map(({ id, rules }) => [id, rules]));
  return {
    grants: row.grants.map(
      ({ kind, id, role, endsAt }): Grant => ({
        targetKind: kind,
        targetId: id,
        rules: roles.get(role) ?? [],
        endsAt: endsAt ?? Infinity,
      }),
    ),
    reach: new Map(row.reach.map(({ kind, id, ...below }) => [`${kind}/${id}`, below])),
    homeProjects: row.homeProjects,
  };
}
