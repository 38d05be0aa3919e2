/**
 * Whether a change is allowed: the permission of the action itself where its resource lies, and for each resource that it names the permission
 * that this use of it needs.
 */
import type { Queryable, Transaction } from '../database/database.ts';
import { suspensionAt } from '../database/rights.ts';
import { from, statementOfKind, tableOf, type Values } from '../database/statement.ts';
import { wellKnown } from '../database/wellKnown.ts';
import type { Kind } from '../model/kind.ts';
import { kindOf } from '../model/kinds.ts';
import { Problem } from '../runtime/problem.ts';
import { type Caller, may, type Place, placeOf, scopesOf } from './caller.ts';
import type { Change, Reference, Row } from './change.ts';
import { unmet } from './holds.ts';
import { hookOf } from './hooks.ts';
import { permissionOf } from './operatorOnly.ts';
import { invalid } from './violation.ts';

/** What a change names: by fields that refer, and by what its action says of the body beside them. */
export function referencesOf(kind: Kind, verb: string, input: Record<string, unknown>): Reference[] {
  const said = hookOf(kind.name, verb)?.references?.(input) ?? [];
  const byFields = Object.entries(kind.fields).flatMap(([field, { ref, use }]): Reference[] => {
    const value = input[field];
    // What the action says of a member goes before what the field of that name means in a create.
    if (!ref || value == null || said.some((one) => one.field === field)) return [];
    const ids = Array.isArray(value) ? value : [value];
    return ids.map((id) => ({ kind: ref, id: String(id), field, ...(use ? { use } : {}) }));
  });
  return [...byFields, ...said];
}

/** What names nothing, or what the caller may not know of: nobody can tell which. */
const missing = (field: string, kind: string, id: string): Problem =>
  new Problem('NOT_FOUND', `${field}: there is no ${kind} ${id}`, {
    violations: [{ field, message: `there is no ${kind} ${id}` }],
  });

/** Whether this is the very user who asks. */
const isSelf = ({ own }: Kind, id: string, { userId }: Caller): boolean =>
  own !== undefined && 'user' in own && own.user === 'id' && id === userId;

/**
 * Whether the caller holds a permission on what a change names: catalogue kinds are everybody's who holds it anywhere; the rest must be
 * in the same project, or shared one by one.
 */
function mayName(
  caller: Caller,
  verb: string,
  { kind: name, id }: Reference,
  row: Row,
  projectId: string | null,
): boolean {
  const kind = kindOf(name);
  const permission = `${kind.name}.${verb}`;
  const scopes = scopesOf(caller, permission);
  const resource = { kind: kind.name, id };
  if (verb === 'get' && isSelf(kind, id, caller)) return true;
  if (
    kind.catalogue &&
    scopes.anywhere &&
    (kind.scope === 'project' ? row.visibility === 'public' : row.visibility !== 'private')
  )
    return true;
  if (kind.scope !== 'project' || projectId === null) return may(caller, permission, placeOf(kind, row));
  if (row.projectId === projectId) return may(caller, permission, { projectId, resource });
  return scopes.platform ? kind.catalogue === true : may(caller, permission, { resource });
}

const projectOfHome = statementOfKind(
  (kind, p: Values<{ id: string }>) => from.selectFrom(tableOf(kind)).select('t.projectId').where('t.id', '=', p.id),
  ({ scope }) => scope === 'project',
);

/**
 * The project of a create: that of what it lives with; as given; or the only one of the caller's own account that it can mean. What
 * others share with it is never meant.
 */
export async function projectOf(
  tx: Transaction,
  caller: Caller,
  kind: Kind,
  input: Record<string, unknown>,
): Promise<string | null> {
  if (kind.scope !== 'project') return null;
  if (kind.orPlatform && input.projectId === null) return null;
  const given = typeof input.projectId === 'string' ? input.projectId : null;
  const livesWith = kind.livesWith ? kind.fields[kind.livesWith]?.ref : undefined;
  if (kind.livesWith && livesWith) {
    const [home] = await projectOfHome(kindOf(livesWith))(tx, { id: String(input[kind.livesWith]) });
    if (home && (given === null || given === home.projectId)) return home.projectId;
    throw missing(kind.livesWith, livesWith, String(input[kind.livesWith]));
  }
  if (given) return given;
  const scopes = scopesOf(caller, `${kind.name}.create`);
  const [only, another] = caller.homeProjects.filter((id) => scopes.projects.has(id));
  if (only && !another) return only;
  throw new Problem('INVALID_ARGUMENT', 'projectId is needed: there is not exactly one project that you may mean', {
    violations: [{ field: 'projectId', message: 'is needed' }],
  });
}

/** Where the permission must be held. Of what is about to be made, its own id is no place yet. */
function placeOfChange({ kind, verb }: Change, row: Row, loaded: Map<string, Row>): Place {
  const hook = hookOf(kind.name, verb);
  if (hook?.livesIn) {
    const home = hook.livesIn(row);
    const there = home ? loaded.get(`${home.kind}/${home.id}`) : undefined;
    return home && there ? placeOf(kindOf(home.kind), there) : {};
  }
  if (hook?.permittedAt) return hook.permittedAt(row, loaded);
  return verb === 'create' ? { ...placeOf(kind, row), resource: null } : placeOf(kind, row);
}

/** Whether the caller can read it, so that a refusal may say more than that it is not there. */
const maySee = (caller: Caller, kind: Kind, row: Row): boolean =>
  may(caller, `${kind.name}.get`, placeOf(kind, row)) ||
  (kind.catalogue === true &&
    (kind.scope === 'project' ? row.visibility === 'public' : row.visibility !== 'private') &&
    scopesOf(caller, `${kind.name}.get`).anywhere);

export function authorize(change: Change, row: Row, loaded: Map<string, Row>): void {
  const { kind, caller, verb } = change;
  const permission = permissionOf(change);
  const hook = hookOf(kind.name, verb);
  const place = placeOfChange(change, row, loaded);
  if (change.permitted || (hook?.mine ? hook.mine(row, caller) : may(caller, permission, place))) return;
  if (hook?.isOwn?.(row, caller) && scopesOf(caller, permission).anywhere) return;
  const seen = verb !== 'create' && (may(caller, `${kind.name}.get`, place) || maySee(caller, kind, row));
  // What a caller may not even see does not exist for it; a project it may not see neither.
  if (verb !== 'create' && kind.actions[verb]?.on !== 'collection' && !seen)
    throw new Problem('NOT_FOUND', `there is no ${kind.name} ${row.id}`);
  const livesWith = kind.livesWith ? kind.fields[kind.livesWith]?.ref : undefined;
  if (verb === 'create' && kind.livesWith && livesWith) {
    const home = loaded.get(`${livesWith}/${String(row[kind.livesWith])}`);
    if (!home || !maySee(caller, kindOf(livesWith), home))
      throw missing(kind.livesWith, livesWith, String(row[kind.livesWith]));
  } else if (
    verb === 'create' &&
    kind.scope === 'project' &&
    place.projectId != null &&
    !may(caller, 'project.get', { projectId: place.projectId })
  )
    throw new Problem('NOT_FOUND', `there is no project ${place.projectId}`, {
      violations: [{ field: 'projectId', message: 'there is no such project' }],
    });
  throw new Problem('FORBIDDEN', `you need the permission ${permission} here`);
}

/** Nothing of tenants is made in a zone that is closed; those who run it prepare it as they like. */
export function refuseClosedZone(kind: Kind, input: Record<string, unknown>, loaded: ReadonlyMap<string, Row>): void {
  if (kind.scope === 'project' && loaded.get(`zone/${String(input.zoneId)}`)?.enabled === false)
    throw invalid('zoneId', 'is closed to new resources');
}

const idOrNull = (id: unknown): string | null => (typeof id === 'string' ? id : null);

/** Why nothing new is made or started in an account, or below a domain: it is locked, or a domain above is disabled. Null when it is. */
export async function suspensionOf(
  on: Queryable,
  where: { projectId?: unknown; accountId?: unknown; domainId?: unknown },
): Promise<string | null> {
  const [place] = await suspensionAt(on, {
    projectId: idOrNull(where.projectId),
    accountId: idOrNull(where.accountId),
    domainId: idOrNull(where.domainId),
  });
  if (place?.state && place.state !== 'active') return `the account is ${place.state}`;
  return place?.closed ? 'a domain above it is disabled' : null;
}

/** In a locked account, and in a disabled domain, nothing is made or started, whoever asks; the platform itself goes on with what runs. */
export async function refuseLocked(tx: Transaction, caller: Caller, row: Row, loaded: Map<string, Row>): Promise<void> {
  if (caller.userId === wellKnown.platform || caller.goesOn) return;
  const user = typeof row.userId === 'string' ? loaded.get(`user/${row.userId}`) : undefined;
  const accountId = row.accountId ?? user?.accountId;
  // Of a domain that is made below another.
  const domainId = row.domainId ?? (row.projectId ? null : row.parentId);
  if (!row.projectId && !accountId && !domainId) return;
  const suspension = await suspensionOf(tx, { projectId: row.projectId, accountId, domainId });
  if (suspension)
    throw new Problem('ACCOUNT_SUSPENDED', `${suspension}: what is there stays, nothing new is made or started`);
}

export function checkReferences(
  caller: Caller,
  references: Reference[],
  loaded: Map<string, Row>,
  projectId: string | null,
  above: ReadonlyMap<string, string>,
): void {
  for (const reference of references) {
    const row = loaded.get(`${reference.kind}/${reference.id}`);
    const { use = 'use' } = reference;
    if (!row || !mayName(caller, use, reference, row, projectId)) {
      if (row && use !== 'get' && maySee(caller, kindOf(reference.kind), row))
        throw new Problem(
          'FORBIDDEN',
          `${reference.field}: you need the permission ${reference.kind}.${use} on ${reference.kind} ${reference.id}`,
          {
            violations: [{ field: reference.field, message: `needs the permission ${reference.kind}.${use}` }],
          },
        );
      throw missing(reference.field, reference.kind, reference.id);
    }
    const within = above.get(`${reference.kind}/${reference.id}`);
    const refused = unmet(
      { kind: reference.kind, id: reference.id, mode: 'S', ...(within ? { within } : {}) },
      row,
      'the request',
    );
    if (refused)
      throw new Problem(refused.code, `${reference.field}: ${refused.message}`, {
        ...refused.details,
        violations: [{ field: reference.field, message: `is ${String(row.state)}` }],
      });
  }
}
