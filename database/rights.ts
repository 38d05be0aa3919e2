/** Keys, and what comes with them. */
import { from, now, statement, type Values, written } from './statement.ts';

/** Keys that have not been deleted, nor their user, nor their account. */
const keys = from
  .selectFrom('apiKey as k')
  .innerJoin('user as u', (join) => join.onRef('u.id', '=', 'k.userId').on('u.deletedAt', 'is', null))
  .innerJoin('account as a', (join) => join.onRef('a.id', '=', 'k.accountId').on('a.deletedAt', 'is', null))
  .select((eb) => [
    'k.id',
    'k.secretHash',
    'k.userId',
    'a.id as accountId',
    'k.permissions',
    'k.allowedCidrs',
    'k.expiresAt',
    'a.state as accountState',
    'u.state as userState',
    eb
      .and([eb('k.enabled', '=', true), eb.or([eb('k.expiresAt', 'is', null), eb('k.expiresAt', '>', now)])])
      .as('live'),
  ])
  .where('k.deletedAt', 'is', null);

export const keyById = statement((p: Values<{ id: string }>) => keys.where('k.id', '=', p.id));
export const keyByAccessKey = statement((p: Values<{ accessKey: string }>) =>
  keys.where('k.accessKey', '=', p.accessKey),
);

export type KeyRow = Awaited<ReturnType<typeof keyById>>[number];

/** Allows or denies what its pattern says. */
export interface Rule {
  effect: 'allow' | 'deny';
  pattern: string;
}

/** What lies below something that a grant is bound to. */
export interface Reach {
  domains: string[];
  accounts: string[];
  projects: string[];
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
export const rightsOfUser = written<RightsRow, { userId: string; accountId: string }>(`
  WITH RECURSIVE living AS NOT MATERIALIZED (
    SELECT *, coalesce("expiresAt", 'infinity') AS ends FROM "roleBinding" WHERE "deletedAt" IS NULL AND state = 'active' AND ("expiresAt" IS NULL OR "expiresAt" > now())
  ), subject AS (
    SELECT 'user' AS kind, $userId::uuid AS id, 'infinity'::timestamptz AS ends UNION ALL SELECT 'account', $accountId::uuid, 'infinity'
    UNION ALL SELECT 'project', "targetId", max(ends) FROM living WHERE "subjectKind" = 'user' AND "subjectId" = $userId AND "targetKind" = 'project' GROUP BY "targetId"
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
         coalesce((SELECT json_agg(p.id) FROM "project" p WHERE p."accountId" = $accountId AND p."deletedAt" IS NULL), '[]') AS "homeProjects"`);

/** The state of an account, and whether a domain above it is closed; or of a domain alone. */
export const suspensionAt = written<
  { state: string | null; closed: boolean },
  { projectId: string | null; accountId: string | null; domainId: string | null }
>(
  `WITH home AS (
     SELECT a.state, a."domainId" FROM "account" a WHERE a.id = coalesce((SELECT "accountId" FROM "project" WHERE id = $projectId), $accountId)
     UNION ALL SELECT NULL, $domainId::uuid WHERE $domainId::uuid IS NOT NULL)
   SELECT h.state, EXISTS (SELECT 1 FROM "domain" own JOIN "domain" d ON d.id::text = ANY(string_to_array(own.path, '/')) AND NOT d.enabled
     WHERE own.id = h."domainId") AS closed
   FROM home h LIMIT 1`,
);

/** All API processes forget what callers may: heard when the transaction has ended. */
export const rightsChanged = written<never>(`SELECT pg_notify('belay_rights', '')`);
