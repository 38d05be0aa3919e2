/** What a caller may know of, as a condition on rows. */
import { identifier, or, type Sql, sql } from '../database/sql.ts';
import type { Kind } from '../model/kind.ts';
import { allKinds } from '../model/kinds.ts';
import { type Caller, keyAllows, type Scopes, scopesOf } from './caller.ts';
import { type Veil, veilOf } from './veil.ts';

/**
 * What the caller may see of a kind: a condition on its table, which is aliased `alias`. Null means everything,
 * `FALSE` nothing. One project is best written `= $n` and several `= ANY($n)`: then there are two texts, and the one that
 * nearly everybody needs is a range of an index.
 */
export interface Visible {
  (kind: Kind, alias: Sql): Sql | null;
  /** What hides single columns of what is seen; null or absent: nothing does. */
  veil?: Veil | null;
}

const visibleMemo = new WeakMap<Caller, Partial<Record<'get' | 'list', Visible>>>();

/** The condition that keeps rows of a kind out that this caller may not know of; the same function for the same caller. */
export function visibleTo(caller: Caller, verb: 'get' | 'list'): Visible {
  let known = visibleMemo.get(caller);
  if (!known) {
    known = {};
    visibleMemo.set(caller, known);
  }
  known[verb] ??= Object.assign(conditionFor(caller, verb), { veil: veilOf(caller) });
  return known[verb];
}

/** Whether the caller may ask for any of a kind at all. What it was granted, and is invited to, everybody may see. */
export const mayAsk = (caller: Caller, { name, grants }: Kind, verb: 'get' | 'list'): boolean =>
  scopesOf(caller, `${name}.${verb}`).anywhere || (grants === true && keyAllows(caller, `${name}.${verb}`));

const conditionFor =
  (caller: Caller, verb: 'get' | 'list') =>
  (kind: Kind, alias: Sql): Sql | null => {
    const scopes = scopesOf(caller, `${kind.name}.${verb}`);
    if (scopes.platform) return null;
    const seen = mayAsk(caller, kind, verb) ? seenIn(scopes, caller, kind, alias, verb) : FALSE;
    // What is shared one by one, by ids of this very kind.
    const shared = [...(scopes.shares.get(kind.name) ?? [])];
    return seen === null || shared.length === 0 ? seen : sql`(${seen} OR ${alias}.id = ANY(${shared}::uuid[]))`;
  };

const FALSE = sql`FALSE`;

/** What the caller sees for where it lies. */
function seenIn(scopes: Scopes, caller: Caller, kind: Kind, alias: Sql, verb: 'get' | 'list'): Sql | null {
  const projects = [...scopes.projects];
  const accounts = [...scopes.accounts];
  const domains = [...scopes.domains];
  if (kind.scope === 'project') {
    // One project is compared, several are looked up: only a comparison lets a generic plan use the index of the order.
    const own =
      projects.length === 1
        ? sql`${alias}."projectId" = ${projects[0]}::uuid`
        : sql`${alias}."projectId" = ANY(${projects}::uuid[])`;
    // What lies in no project, such as the delete of an account with all that is in it, its own caller follows.
    if (kind.ends && verb === 'get')
      return sql`(${own} OR (${alias}."projectId" IS NULL AND ${alias}."actorUserId" = ${caller.userId}::uuid))`;
    return kind.catalogue ? sql`(${own} OR ${alias}.visibility = 'public')` : own;
  }
  const within = { project: projects, account: accounts, domain: domains };
  const at = (field: string): Sql =>
    or(
      Object.entries(within).map(
        ([name, ids]) =>
          sql`(${alias}.${identifier(`${field}Kind`)} = ${name} AND ${alias}.${identifier(`${field}Id`)} = ANY(${ids}::uuid[]))`,
      ),
    );
  const seen = [
    ...placesOf(kind.lies ?? {}).map(
      ([of, column]) => sql`${alias}.${identifier(column)} = ANY(${within[of]}::uuid[])`,
    ),
    ...(kind.liesBy ? [at(kind.liesBy)] : []),
    ...(kind.own ? [ownOf(kind.own, caller, alias)] : []),
    ...(kind.grants ? [at('target'), at('subject'), grantedTo(caller, alias), sharesIn(projects, alias)] : []),
  ];
  if (seen.length > 0) return sql`(${or(seen)})`;
  if (!kind.catalogue) return FALSE;
  return kind.fields.visibility ? sql`${alias}.visibility = 'public'` : null;
}

const placesOf = (lies: NonNullable<Kind['lies']>) =>
  Object.entries(lies) as ['project' | 'account' | 'domain', string][];

const ownOf = (own: NonNullable<Kind['own']>, { userId, accountId }: Caller, alias: Sql): Sql =>
  'user' in own
    ? sql`${alias}.${identifier(own.user)} = ${userId}::uuid`
    : sql`${alias}.${identifier(own.account)} = ${accountId}::uuid`;

const grantedTo = ({ userId }: Caller, alias: Sql): Sql =>
  sql`(${alias}."subjectKind" = 'user' AND ${alias}."subjectId" = ${userId}::uuid)`;

/** Grants on what lies in these projects. */
const sharesIn = (projects: readonly string[], alias: Sql): Sql =>
  or(
    allKinds
      .filter(({ scope, readOnly }) => scope === 'project' && !readOnly)
      .map(
        ({ name }) =>
          sql`EXISTS (SELECT 1 FROM ${identifier(name)} s WHERE s.id = ${alias}."targetId" AND ${alias}."targetKind" = ${name} AND s."projectId" = ANY(${projects}::uuid[]))`,
      ),
  );
