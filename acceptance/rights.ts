/** What the user of an API key may do right now. */
import { type Queryable, run } from '../database/database.ts';
import { wellKnown } from '../database/installation.ts';
import { type Caller, type Grant, type Reach, type Rule, systemCaller } from './caller.ts';

export interface KeyRow {
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

/** Keys that have not been deleted, nor their user, nor their account. */
export const keysWhere = (condition: string): string =>
  `SELECT k.id, k."secretHash", k."userId", k."accountId", k.permissions, k."allowedCidrs", k."expiresAt", a.state AS "accountState", u.state AS "userState",
          (k.enabled AND (k."expiresAt" IS NULL OR k."expiresAt" > now())) AS live
   FROM "apiKey" k JOIN "user" u ON u.id = k."userId" AND u."deletedAt" IS NULL JOIN "account" a ON a.id = k."accountId" AND a."deletedAt" IS NULL
   WHERE ${condition} AND k."deletedAt" IS NULL`;

/** The caller that a key stands for, with all rights of its user. Whether the key may still be used is the reader's to ask. */
export const callerOf = async (on: Queryable, key: KeyRow): Promise<Caller> => ({
  userId: key.userId,
  apiKeyId: key.id,
  accountId: key.accountId,
  accountState: key.accountState,
  key: { patterns: key.permissions, cidrs: key.allowedCidrs, endsAt: key.expiresAt?.getTime() ?? Infinity },
  ...(await rightsOf(on, key.userId, key.accountId)),
  scopes: new Map(),
});

/** Who a key would be let in as right now; null when it would not be. */
export async function holderOf(on: Queryable, apiKeyId: string): Promise<Caller | null> {
  if (apiKeyId === wellKnown.platform) return systemCaller();
  const [key] = await run<KeyRow>(on, keysWhere('k.id = $1'), [apiKeyId]);
  if (!key?.live || key.userState !== 'active' || key.accountState === 'disabled') return null;
  return callerOf(on, key);
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
  on: Queryable,
  userId: string,
  accountId: string,
): Promise<Pick<Caller, 'grants' | 'reach' | 'homeProjects'>> {
  const [row] = await run<RightsRow>(on, rightsStatement, [userId, accountId]);
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
