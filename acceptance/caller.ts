/** Who asks, and what they may: grants, and what follows from them for single changes. */
import { wellKnown } from '../database/installation.ts';
import type { Kind } from '../model/kind.ts';

interface Rule {
  effect: 'allow' | 'deny';
  pattern: string;
}

export interface Grant {
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

export interface Reach {
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
