/** Who asks, and what they may: grants, and what follows from them for single changes. */

import type { Reach, Rule } from '../database/rights.ts';
import { wellKnown } from '../database/wellKnown.ts';
import type { Kind } from '../model/kind.ts';

export type { Rule } from '../database/rights.ts';

export interface Grant {
  targetKind: string;
  targetId: string | null;
  /** One array per role, shared by all grants of it. */
  rules: readonly Rule[];
  /** Milliseconds of the epoch; Infinity when it does not end by itself. */
  endsAt: number;
}

/** What narrows a key below what its user may. */
export interface KeyLimits {
  patterns: string[];
  /** IPv4 ranges it may be used from; none means anywhere. */
  cidrs: string[];
  /** Milliseconds of the epoch; Infinity when it does not end by itself. */
  endsAt: number;
}

export interface Caller {
  userId: string;
  apiKeyId: string;
  accountId: string;
  accountState: string;
  /** Living projects of the caller's own account: the only ones that a create may mean without naming them. */
  homeProjects: string[];
  key: KeyLimits;
  grants: Grant[];
  /** What lies below each target that tenants live in, by `<kind>/<id>`. */
  reach: Map<string, Reach>;
  /** Memo of `scopesOf` by permission. */
  scopes: Map<string, Scopes>;
  /** The platform goes on, in this caller's name, with what the caller has begun. */
  goesOn?: true;
}

/** Where a permission is held. */
export interface Scopes {
  platform: boolean;
  domains: Set<string>;
  accounts: Set<string>;
  projects: Set<string>;
  /** Single resources by kind: an id says nothing without its kind. */
  shares: Map<string, Set<string>>;
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

/** Whether there is a permission that both patterns allow. */
const meet = (one: string, other: string): boolean => {
  const [kind = '*', verb = '*'] = one.split('.');
  const [otherKind = '*', otherVerb = '*'] = other.split('.');
  const same = (a: string, b: string): boolean => a === b || a === '*' || b === '*';
  return same(kind, otherKind) && same(verb, otherVerb);
};

/** Whether a role gives a permission, or all that a pattern allows: whatever is denied of it is missing. Who may not delete does not hold `instance.*`. */
export const gives = (rules: readonly Rule[], permission: string): boolean =>
  rules.some(({ effect, pattern }) => effect === 'allow' && matches(pattern, permission)) &&
  !rules.some(({ effect, pattern }) => effect === 'deny' && meet(pattern, permission));

/** Whether the key that is used allows all that the pattern does, whatever its user may. */
export const keyAllows = ({ key }: Caller, pattern: string): boolean =>
  key.patterns.some((held) => matches(held, pattern));

/** The grants that give a permission, or all that a pattern allows. */
function givenBy(caller: Caller, permission: string): Grant[] {
  if (!keyAllows(caller, permission)) return [];
  const roles = new Map<readonly Rule[], boolean>();
  return caller.grants.filter(({ rules }) => {
    let known = roles.get(rules);
    if (known === undefined) {
      known = gives(rules, permission);
      roles.set(rules, known);
    }
    return known;
  });
}

const reachOf = (caller: Caller, { targetKind, targetId }: Grant): Reach | undefined =>
  caller.reach.get(`${targetKind}/${targetId}`);

/** Where the caller holds a permission, or all that a pattern allows. */
export function scopesOf(caller: Caller, permission: string): Scopes {
  const known = caller.scopes.get(permission);
  if (known) return known;
  const scopes: Scopes = {
    platform: false,
    domains: new Set(),
    accounts: new Set(),
    projects: new Set(),
    shares: new Map(),
    anywhere: false,
  };
  caller.scopes.set(permission, scopes);
  for (const grant of givenBy(caller, permission)) {
    scopes.anywhere = true;
    if (grant.targetKind === 'platform') scopes.platform = true;
    else if (grant.targetId) {
      const reach = reachOf(caller, grant);
      for (const id of reach?.domains ?? []) scopes.domains.add(id);
      for (const id of reach?.accounts ?? []) scopes.accounts.add(id);
      for (const id of reach?.projects ?? []) scopes.projects.add(id);
      if (reach) continue;
      const shared = scopes.shares.get(grant.targetKind) ?? new Set();
      scopes.shares.set(grant.targetKind, shared.add(grant.targetId));
    }
  }
  return scopes;
}

export interface Place {
  projectId?: string | null;
  accountId?: string | null;
  domainId?: string | null;
  resource?: { kind: string; id: string } | null;
}

/** Where a record lives: what a permission must be held at to touch it. */
export function placeOf(kind: Kind, row: Record<string, unknown> & { id: string }): Place {
  const text = (value: unknown): string | null => (typeof value === 'string' ? value : null);
  const resource = { kind: kind.name, id: row.id };
  if (kind.liesBy) return { [`${String(row[`${kind.liesBy}Kind`])}Id`]: row[`${kind.liesBy}Id`], resource };
  const { project, account, domain } = kind.lies ?? { project: 'projectId', account: 'accountId', domain: 'domainId' };
  const at = (column: string | undefined): string | null => (column === undefined ? null : text(row[column]));
  return { projectId: at(project), accountId: at(account), domainId: at(domain), resource };
}

/** Whether the caller holds the permission for something at this place; for a pattern, all that it allows. */
export function may(caller: Caller, permission: string, place: Place): boolean {
  const scopes = scopesOf(caller, permission);
  const { projectId, accountId, domainId, resource } = place;
  return (
    scopes.platform ||
    (projectId != null && scopes.projects.has(projectId)) ||
    (accountId != null && scopes.accounts.has(accountId)) ||
    (domainId != null && scopes.domains.has(domainId)) ||
    (resource != null && scopes.shares.get(resource.kind)?.has(resource.id) === true)
  );
}

/**
 * Until when the caller holds all that a pattern allows at a place, in milliseconds of the epoch; 0 when it does not, Infinity when
 * neither its grant nor its key ends. What comes from this right may not last longer.
 */
export function heldUntil(caller: Caller, pattern: string, place: Place): number {
  const { projectId, accountId, domainId, resource } = place;
  const covers = (grant: Grant): boolean => {
    if (grant.targetKind === 'platform') return true;
    const reach = reachOf(caller, grant);
    if (!reach) return resource != null && grant.targetKind === resource.kind && grant.targetId === resource.id;
    return (
      (projectId != null && reach.projects.includes(projectId)) ||
      (accountId != null && reach.accounts.includes(accountId)) ||
      (domainId != null && reach.domains.includes(domainId))
    );
  };
  const ends = givenBy(caller, pattern)
    .filter(covers)
    .map(({ endsAt }) => endsAt);
  return Math.min(caller.key.endsAt, Math.max(0, ...ends));
}

/** Whether the caller is one of those who run the platform, for what only they may set. */
export const isOperator = (caller: Caller, permission: string): boolean => scopesOf(caller, permission).platform;

/** The platform itself, when it acts on what it observed. */
export const systemCaller = (): Caller => ({
  userId: wellKnown.platform,
  apiKeyId: wellKnown.platform,
  accountId: wellKnown.rootAccount,
  accountState: 'active',
  homeProjects: [],
  key: { patterns: ['*'], cidrs: [], endsAt: Number.POSITIVE_INFINITY },
  grants: [
    {
      targetKind: 'platform',
      targetId: null,
      rules: [{ effect: 'allow', pattern: '*.*' }],
      endsAt: Number.POSITIVE_INFINITY,
    },
  ],
  reach: new Map(),
  scopes: new Map(),
});
