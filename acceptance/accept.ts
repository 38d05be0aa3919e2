/**
 * One change, from a checked body to a committed transaction. Everything an action does to the records at acceptance happens
 * here, in one transaction: identity, rows, locks, operation, quota, audit – all or nothing.
 */
import { createHash } from 'node:crypto';
import { callbackSecretField } from '../database/callbacks.ts';
import { type Client, type Database, insertAll, run, transaction } from '../database/database.ts';
import { eventRow } from '../database/events.ts';
import { wellKnown } from '../database/installation.ts';
import { askAgainSeconds } from '../database/queue.ts';
import { seal, unseal } from '../database/secrets.ts';
import { columnsOf, isLocked } from '../model/columns.ts';
import { happenedOf } from '../model/happened.ts';
import type { Action, Kind, LockMode } from '../model/kind.ts';
import { kindOf } from '../model/kinds.ts';
import { Problem } from '../runtime/problem.ts';
import { type Caller, isOperator, may, type Place, placeOf, scopesOf } from './caller.ts';
import type { Accepting, Change, Hold, Outcome, Reference, Row } from './change.ts';
import { refuseDependents } from './deletePlan.ts';
import { checkUniqueName } from './guards.ts';
import { hookOf } from './hooks.ts';
import { patched } from './patch.ts';
import { enforceQuota, type Owner } from './quota.ts';
import { checkAction, checkCreate, checkPatch } from './validate.ts';

const rightsKinds = new Set(['domain', 'account', 'project', 'user', 'apiKey', 'role', 'roleBinding']);

/** Keeps a transaction from committing: the dry run has seen what it wanted. */
class DryRun extends Error {
  readonly plan: unknown;

  constructor(plan: unknown) {
    super('dry run');
    this.plan = plan;
  }
}

export async function acceptChange(database: Database, change: Change): Promise<Outcome> {
  const action = change.kind.actions[change.verb];
  if (!action) throw new Problem('NOT_FOUND', `${change.kind.name} has no action ${change.verb}`);
  const input = checked(change);
  try {
    return await transaction(database, async (tx) => {
      const replay = await replayed(tx, change);
      if (replay) return replay;
      const outcome = await accept(tx, change, action, structuredClone(input));
      if (change.idempotencyKey)
        // An answer may hold a secret that is shown once, such as a new API key: it is kept as a secret.
        await run(tx, `UPDATE "idempotencyKey" SET status = $3, body = $4 WHERE "callerId" = $1 AND key = $2`, [
          change.caller.apiKeyId,
          change.idempotencyKey,
          outcome.status,
          seal(change.caller.apiKeyId, change.idempotencyKey, outcome.body),
        ]);
      return outcome;
    });
  } catch (error) {
    if (error instanceof DryRun) return { status: 200, body: JSON.stringify(error.plan) };
    throw error;
  }
}

function checked(change: Change): Record<string, unknown> {
  const { kind, verb, body } = change;
  if (verb === 'create') return checkCreate(kind, body);
  if (verb === 'update') return checkPatch(kind, body);
  if (verb === 'delete') return checkAction(kind, verb, undefined);
  return checkAction(kind, verb, body);
}

async function replayed(tx: Client, change: Change): Promise<Outcome | null> {
  if (!change.idempotencyKey || change.dryRun) return null;
  const hash = createHash('sha256')
    .update(JSON.stringify([change.kind.name, change.verb, change.targetId, change.body ?? null]))
    .digest('hex');
  const values = [change.caller.apiKeyId, change.idempotencyKey];
  const mine = await run(
    tx,
    `INSERT INTO "idempotencyKey" ("callerId", key, "requestHash", status, body) VALUES ($1, $2, $3, 0, '') ON CONFLICT DO NOTHING RETURNING 1`,
    [...values, hash],
  );
  if (mine.length > 0) return null;
  const [first] = await run<{ requestHash: string; status: number; body: string }>(
    tx,
    `SELECT "requestHash", status, body FROM "idempotencyKey" WHERE "callerId" = $1 AND key = $2`,
    values,
  );
  if (first?.requestHash !== hash)
    throw new Problem('IDEMPOTENCY_MISMATCH', 'this Idempotency-Key was used with another request');
  return { status: first.status, body: unseal(change.caller.apiKeyId, change.idempotencyKey, first.body) };
}

/** Locks in the order of their ids what the change touches, so that queue positions are in commit order and no two changes wait in a circle. */
async function lockAll(tx: Client, locks: { id: string; mode: LockMode }[]): Promise<void> {
  const strongest = new Map<string, boolean>();
  for (const { id, mode } of locks) strongest.set(id, (strongest.get(id) ?? false) || mode !== 'S');
  const ids = [...strongest.keys()].sort();
  await run(
    tx,
    `SELECT CASE WHEN x THEN pg_advisory_xact_lock(hashtextextended(id, 1)) ELSE pg_advisory_xact_lock_shared(hashtextextended(id, 1)) END
     FROM (SELECT id, x FROM unnest($1::text[], $2::boolean[]) AS t(id, x) ORDER BY id) ordered`,
    [ids, ids.map((id) => strongest.get(id))],
  );
}

/** Living rows of the named resources, in one statement. */
async function loadAll(tx: Client, wanted: { kind: string; id: string }[]): Promise<Map<string, Row>> {
  const byKind = new Map<string, string[]>();
  for (const { kind, id } of wanted) byKind.set(kind, [...(byKind.get(kind) ?? []), id]);
  const kinds = [...byKind.keys()].sort();
  if (kinds.length === 0) return new Map();
  const text = kinds
    .map(
      (kind, index) =>
        `SELECT '${kindOf(kind).name}' AS kind, row_to_json(t) AS row FROM "${kindOf(kind).name}" t WHERE t.id = ANY($${index + 1}::uuid[]) AND t."deletedAt" IS NULL`,
    )
    .join(' UNION ALL ');
  const rows = await run<{ kind: string; row: Row }>(
    tx,
    text,
    kinds.map((kind) => byKind.get(kind)),
  );
  return new Map(rows.map(({ kind, row }) => [`${kind}/${row.id}`, row]));
}

function fieldReferences(kind: Kind, input: Record<string, unknown>): Reference[] {
  return Object.entries(kind.fields).flatMap(([field, { ref }]) => {
    const value = input[field];
    if (!ref || value == null) return [];
    return (Array.isArray(value) ? value : [value]).map((id) => ({ kind: ref, id: String(id), field }));
  });
}

/** Catalogue kinds anybody may name; the rest must be in the same project, or shared. */
function mayUse(caller: Caller, reference: Reference, row: Row, projectId: string | null): boolean {
  const kind = kindOf(reference.kind);
  const permission = `${kind.name}.get`;
  if (kind.name === 'user' && row.id === caller.userId) return true;
  if (scopesOf(caller, permission).platform)
    return kind.scope !== 'project' || kind.catalogue === true || projectId === null || row.projectId === projectId;
  if (kind.scope === 'project') {
    if (kind.catalogue && row.visibility === 'public') return true;
    if (projectId === null) return may(caller, permission, placeOf(kind, row));
    return row.projectId === projectId
      ? may(caller, permission, { projectId })
      : may(caller, permission, { resource: { kind: kind.name, id: row.id } });
  }
  if (kind.catalogue)
    return (
      scopesOf(caller, permission).anywhere &&
      (row.visibility !== 'private' || may(caller, permission, { resource: { kind: kind.name, id: row.id } }))
    );
  return may(caller, permission, placeOf(kind, row));
}

/** The project of a create: as given, or the only one of its own account that the caller can mean. What others share with it is never meant. */
function projectOf(caller: Caller, kind: Kind, input: Record<string, unknown>): string | null {
  if (kind.scope !== 'project') return null;
  if (typeof input.projectId === 'string') return input.projectId;
  const scopes = scopesOf(caller, `${kind.name}.create`);
  const [only, another] = caller.homeProjects.filter((id) => scopes.projects.has(id));
  if (only && !another) return only;
  throw new Problem('INVALID_ARGUMENT', 'projectId is needed: there is not exactly one project that you may mean', {
    violations: [{ field: 'projectId', message: 'is needed' }],
  });
}

function newRow(
  kind: Kind,
  input: Record<string, unknown>,
  projectId: string | null,
  operationId: string | null,
  state: string | undefined,
): Row {
  const now = new Date().toISOString();
  const implied: Record<string, unknown> = {
    id: input.requestedId ?? crypto.randomUUID(),
    projectId,
    name: input.name,
    description: input.description ?? '',
    labels: input.labels ?? {},
    systemLabels: {},
    managedBy: null,
    state,
    fault: null,
    currentOperationId: operationId,
    createdAt: now,
    updatedAt: now,
    deletedAt: null,
    revision: 1,
  };
  const row: Record<string, unknown> = {};
  for (const column of columnsOf(kind))
    row[column.name] = column.name in implied ? implied[column.name] : (input[column.name] ?? column.default ?? null);
  return row as Row;
}

const told = (kind: Kind, row: Row): Record<string, unknown> => {
  const hidden = new Set(columnsOf(kind).flatMap((column) => (column.hidden ? [column.name] : [])));
  return Object.fromEntries(Object.entries(row).filter(([name]) => !hidden.has(name)));
};

/** The body as it may be kept: secrets masked. */
export function masked(kind: Kind, input: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(input).map(([name, value]) => [name, kind.fields[name]?.secret && value != null ? '***' : value]),
  );
}

async function accept(tx: Client, change: Change, action: Action, input: Record<string, unknown>): Promise<Outcome> {
  const { kind, verb, caller } = change;
  const permission = `${kind.name}.${verb}`;
  const creating = verb === 'create';
  const hook = hookOf(kind.name, verb);
  const references = [...fieldReferences(kind, input), ...(hook?.references?.(input) ?? [])];
  const projectId = creating ? projectOf(caller, kind, input) : null;
  const targetMode: LockMode = action.lock ?? (verb === 'delete' ? 'D' : 'X');

  await lockAll(tx, [
    ...(change.targetId ? [{ id: change.targetId, mode: targetMode }] : []),
    ...(projectId ? [{ id: projectId, mode: 'S' as const }] : []),
    ...references.map(({ id, mode }) => ({ id, mode: mode ?? 'S' })),
  ]);
  const loaded = await loadAll(tx, [
    ...(change.targetId ? [{ kind: kind.name, id: change.targetId }] : []),
    ...(projectId ? [{ kind: 'project', id: projectId }] : []),
    ...references,
  ]);
  const target = change.targetId ? loaded.get(`${kind.name}/${change.targetId}`) : undefined;
  if (change.targetId && !target) throw new Problem('NOT_FOUND', `there is no ${kind.name} ${change.targetId}`);
  const operationId = action.mode === 'operation' ? crypto.randomUUID() : null;
  const row = target ?? newRow(kind, input, projectId, operationId, action.via ?? action.to);
  const home = hook?.home?.(row);
  if (home) for (const [key, found] of await loadAll(tx, [home])) loaded.set(key, found);
  authorize(change, permission, row, loaded);

  const livesIn = (target?.projectId as string | null | undefined) ?? projectId;
  const project = projectId ? (loaded.get(`project/${projectId}`) ?? null) : null;
  if (projectId && !project)
    throw new Problem('NOT_FOUND', `there is no project ${projectId}`, {
      violations: [{ field: 'projectId', message: 'there is no such project' }],
    });
  if (project && project.state !== 'active')
    throw new Problem('INVALID_STATE', `project ${project.id} is ${String(project.state)}`);
  checkReferences(caller, references, loaded, livesIn);
  if (action.operatorOnly && !isOperator(caller, permission))
    throw new Problem('FORBIDDEN', `${permission} is for operators`);
  for (const [name, { operatorOnly }] of Object.entries(kind.fields))
    if (
      operatorOnly &&
      input[name] != null &&
      (operatorOnly === true || operatorOnly.includes(String(input[name]))) &&
      !isOperator(caller, permission)
    )
      throw new Problem(
        'FORBIDDEN',
        `${name} can be set ${operatorOnly === true ? '' : `to ${String(input[name])} `}by operators only`,
        {
          violations: [{ field: name, message: 'is for operators' }],
        },
      );
  if (creating || action.adds) await refuseLocked(tx, caller, row, loaded);

  const accepting: Accepting = {
    tx,
    caller,
    kind,
    verb,
    input,
    row,
    project,
    references: loaded,
    operationId,
    rows: {},
    holds: [],
    // Of a create the records hold everything; of an action the workflow must be told. Actions take no secrets.
    workflowInput: { ...(creating ? {} : input), ...change.facts },
    placement: null,
    answer: {},
    warnings: [],
  };
  if (target) {
    if (target.managedBy && !['update'].includes(verb))
      throw new Problem('MANAGED', `${kind.name} ${row.id} changes only through what manages it`, {
        managedBy: target.managedBy,
      });
    if (verb === 'delete') await guardDelete(tx, caller, kind, row);
  } else {
    await checkUniqueName(tx, kind, row);
  }
  await hook?.accept?.(accepting);
  return action.mode === 'operation'
    ? acceptOperation(change, action, accepting, references)
    : acceptRecord(change, action, accepting);
}

/** Where the permission must be held. Of what is about to be made, its own id is no place yet. */
function placeOfChange({ kind, verb }: Change, row: Row, loaded: Map<string, Row>): Place {
  const hook = hookOf(kind.name, verb);
  if (hook?.home) {
    const home = hook.home(row);
    const there = home ? loaded.get(`${home.kind}/${home.id}`) : undefined;
    return home && there ? placeOf(kindOf(home.kind), there) : {};
  }
  const place = hook?.place?.(row, loaded) ?? placeOf(kind, row);
  if (verb === 'create') delete place.resource;
  return place;
}

function authorize(change: Change, permission: string, row: Row, loaded: Map<string, Row>): void {
  const { kind, caller, verb } = change;
  const hook = hookOf(kind.name, verb);
  const place = placeOfChange(change, row, loaded);
  if (may(caller, permission, place)) return;
  if (hook?.own?.(row, caller) && scopesOf(caller, permission).anywhere) return;
  const seen =
    verb !== 'create' &&
    (may(caller, `${kind.name}.get`, place) ||
      (kind.catalogue === true && row.visibility !== 'private' && scopesOf(caller, `${kind.name}.get`).anywhere));
  // What a caller may not even see does not exist for it; a project it may not see neither.
  if (verb !== 'create' && !seen) throw new Problem('NOT_FOUND', `there is no ${kind.name} ${row.id}`);
  if (
    verb === 'create' &&
    kind.scope === 'project' &&
    !may(caller, 'project.get', { projectId: place.projectId ?? null })
  )
    throw new Problem('NOT_FOUND', `there is no project ${place.projectId}`, {
      violations: [{ field: 'projectId', message: 'there is no such project' }],
    });
  throw new Problem('FORBIDDEN', `you need the permission ${permission} here`);
}

/** In a locked account nothing is made or started, whoever asks; the platform itself goes on with what runs. */
async function refuseLocked(tx: Client, caller: Caller, row: Row, loaded: Map<string, Row>): Promise<void> {
  if (caller.userId === wellKnown.platform) return;
  const user = typeof row.userId === 'string' ? loaded.get(`user/${row.userId}`) : undefined;
  const accountId = row.accountId ?? user?.accountId ?? null;
  if (!row.projectId && !accountId) return;
  const [account] = await run<{ state: string }>(
    tx,
    `SELECT a.state FROM "account" a WHERE a.id = coalesce((SELECT "accountId" FROM "project" WHERE id = $1), $2)`,
    [row.projectId ?? null, accountId],
  );
  if (account && account.state !== 'active')
    throw new Problem(
      'ACCOUNT_SUSPENDED',
      `the account is ${account.state}: what it has stays, nothing new is made or started in it`,
    );
}

function checkReferences(
  caller: Caller,
  references: Reference[],
  loaded: Map<string, Row>,
  projectId: string | null,
): void {
  for (const reference of references) {
    const row = loaded.get(`${reference.kind}/${reference.id}`);
    if (!row || !mayUse(caller, reference, row, projectId))
      throw new Problem('NOT_FOUND', `${reference.field}: there is no ${reference.kind} ${reference.id}`, {
        violations: [{ field: reference.field, message: `there is no ${reference.kind} ${reference.id}` }],
      });
    if (row.fault)
      throw new Problem('RESOURCE_FAULTED', `${reference.kind} ${reference.id} is held by a stuck operation`, {
        resource: { kind: reference.kind, id: reference.id },
      });
    const unfit = [
      'creating',
      'adding',
      'failed',
      'deleting',
      'destroyed',
      'destroying',
      'expunging',
      'awaitingUpload',
      'importing',
    ].includes(String(row.state));
    if (unfit)
      throw new Problem(
        'INVALID_STATE',
        `${reference.field}: ${reference.kind} ${reference.id} is ${String(row.state)}`,
        {
          resource: { kind: reference.kind, id: reference.id },
          violations: [{ field: reference.field, message: `is ${String(row.state)}` }],
        },
      );
  }
}

async function guardDelete(tx: Client, caller: Caller, kind: Kind, row: Row): Promise<void> {
  if (row.deleteProtection === true)
    throw new Problem('PROTECTED', `${kind.name} ${row.id} is protected; set deleteProtection to false first`);
  await refuseDependents(tx, caller, kind, row.id);
}

const revisionFits = (change: Change, row: Row): void => {
  if (change.ifMatch !== null && change.ifMatch !== row.revision)
    throw new Problem(
      'REVISION_MISMATCH',
      `${change.kind.name} ${row.id} is at revision ${row.revision}, not ${change.ifMatch}; read it again`,
    );
};

function auditRow(
  change: Change,
  row: Row,
  projectId: string | null,
  operationId: string | null,
  input: Record<string, unknown>,
): Record<string, unknown> {
  return {
    id: crypto.randomUUID(),
    projectId,
    actorUserId: change.caller.userId,
    actorApiKeyId: change.caller.apiKeyId,
    sourceAddress: change.sourceAddress,
    permission: `${change.kind.name}.${change.verb}`,
    resourceKind: change.kind.name,
    resourceId: row.id,
    input: masked(change.kind, input),
    outcome: 'allowed',
    operationId,
    requestId: change.requestId,
  };
}

/** Which resources others are changing, and whether any of the holds has to wait for others. */
async function queueOf(tx: Client, holds: Hold[]): Promise<{ busy: Set<string>; waits: boolean }> {
  const known = holds.filter(({ fresh }) => !fresh);
  // Those who only need it to stay may be thousands: they are asked for only where that matters.
  const locks = await run<{ id: string; mode: LockMode }>(
    tx,
    `SELECT DISTINCT "resourceId" AS id, mode FROM "operationLock" WHERE "resourceId" = ANY($1::uuid[]) AND mode <> 'S'
     UNION ALL SELECT m.id, 'S' FROM unnest($2::uuid[]) AS m(id) WHERE EXISTS (SELECT 1 FROM "operationLock" l WHERE l."resourceId" = m.id AND l.mode = 'S')`,
    [known.map(({ id }) => id), known.flatMap(({ id, mode }) => (mode === 'D' ? [id] : []))],
  );
  const modes = new Map(known.map(({ id, mode }) => [id, mode]));
  return {
    busy: new Set(locks.flatMap(({ id, mode }) => (mode === 'S' ? [] : [id]))),
    waits: locks.some(
      ({ id, mode }) => mode === 'D' || modes.get(id) === 'D' || (mode === 'X' && modes.get(id) === 'X'),
    ),
  };
}

async function callbackRow(
  tx: Client,
  { apiKeyId }: Caller,
  operationId: string,
  url: string,
): Promise<Record<string, unknown>> {
  const [secret] = await run(tx, 'SELECT 1 FROM "secret" WHERE "ownerId" = $1 AND field = $2', [
    apiKeyId,
    callbackSecretField,
  ]);
  if (!secret)
    throw new Problem('INVALID_ARGUMENT', 'this API key has no secret to sign callbacks with; make a new key', {
      violations: [{ field: 'Belay-Callback-Url', message: 'the API key has no callback secret' }],
    });
  return { operationId, apiKeyId, url };
}

/** Whose quota a new row counts for. */
function ownerOf(kind: Kind, row: Row): Owner | null {
  if (typeof row.projectId === 'string') return { projectId: row.projectId };
  if (kind.name === 'account') return { accountId: row.id };
  return typeof row.accountId === 'string' ? { accountId: row.accountId } : null;
}

/** Rows of the secrets that a create brings along. */
function secretRows(kind: Kind, input: Record<string, unknown>, ownerId: string): Record<string, unknown>[] {
  return Object.entries(kind.fields).flatMap(([name, field]) =>
    field.secret && field.set !== 'system' && typeof input[name] === 'string'
      ? [{ ownerId, field: name, ciphertext: seal(ownerId, name, String(input[name])) }]
      : [],
  );
}

async function acceptOperation(
  change: Change,
  action: Action,
  accepting: Accepting,
  references: Reference[],
): Promise<Outcome> {
  const { tx, kind, verb, row, input, rows } = accepting;
  const operationId = accepting.operationId ?? '';
  const creating = verb === 'create';
  revisionFits(change, row);
  if (row.fault)
    throw new Problem('RESOURCE_FAULTED', `${kind.name} ${row.id} is held by a stuck operation`, {
      resource: { kind: kind.name, id: row.id },
    });
  const holds: Hold[] = [
    {
      kind: kind.name,
      id: row.id,
      mode: action.lock ?? 'X',
      ...(action.from ? { from: action.from } : {}),
      via: action.via ?? null,
      to: accepting.to ?? action.to ?? null,
      fresh: creating,
    },
    ...accepting.holds,
    ...references
      .filter(
        ({ kind: name, mode }) => mode === undefined && isLocked(kindOf(name)) && kindOf(name).scope === 'project',
      )
      .map(({ kind: name, id }): Hold => ({ kind: name, id, mode: 'S' })),
  ].filter((hold, index, all) => all.findIndex((other) => other.id === hold.id) === index);
  // Conditions on what is free right now; whatever queues is checked again when its turn comes.
  const { busy, waits } = await queueOf(tx, holds);
  if (waits && change.onBusy === 'fail')
    throw new Problem('RESOURCE_BUSY', `another operation holds or waits for ${kind.name} ${row.id}`, {
      resource: { kind: kind.name, id: row.id },
      retryAfterSeconds: 1,
    });
  const states = new Map<string, string | null>();
  for (const hold of holds) {
    if (hold.mode === 'S' || hold.fresh) continue;
    const held = hold.id === row.id ? row : accepting.references.get(`${hold.kind}/${hold.id}`);
    const state = held ? ((held.state as string | undefined) ?? null) : null;
    states.set(hold.id, state);
    if (busy.has(hold.id)) continue;
    if (hold.from && hold.from.length > 0 && !hold.from.includes(state ?? ''))
      throw new Problem(
        'INVALID_STATE',
        `${hold.kind} ${hold.id} is ${state}; ${kind.name}.${verb} needs ${hold.from.join(' or ')}`,
        {
          resource: { kind: hold.kind, id: hold.id },
          state,
          fits: hold.from,
        },
      );
  }
  const enters = (hold: Hold): boolean => hold.fresh === true || (!waits && hold.mode !== 'S');
  if (creating) rows[kind.name] = [row, ...(rows[kind.name] ?? [])];
  const projectId = (row.projectId as string | null | undefined) ?? null;
  const now = new Date().toISOString();
  const type = `${kind.name}.${verb}`;
  const workflowInput = { [`${kind.name}Id`]: row.id, ...accepting.workflowInput };
  const operation = {
    id: operationId,
    projectId,
    state: 'queued',
    createdAt: now,
    updatedAt: now,
    type,
    targetKind: kind.name,
    targetId: row.id,
    actorUserId: change.caller.userId,
    actorApiKeyId: change.caller.apiKeyId,
    input: masked(kind, { ...input, ...workflowInput }),
    progress: 0,
    steps: [],
    dispatchAt: waits || change.undispatched ? null : new Date(Date.now() + askAgainSeconds * 1000).toISOString(),
    requestId: change.requestId,
  };
  rows.operation = [operation];
  rows.operationLock = holds.map((hold) => ({
    operationId,
    resourceKind: hold.kind,
    resourceId: hold.id,
    mode: hold.mode,
    entered: enters(hold),
    fromStates: hold.from ?? [],
    viaState: hold.via ?? null,
    fromState: enters(hold) && !hold.fresh ? (states.get(hold.id) ?? '') : null,
    toState: hold.to ?? null,
  }));
  rows.auditEntry = [auditRow(change, row, projectId, operationId, input)];
  if (creating) {
    const secrets = secretRows(kind, input, row.id);
    if (secrets.length > 0) rows.secret = secrets;
  }
  if (change.callbackUrl) rows.callback = [await callbackRow(tx, change.caller, operationId, change.callbackUrl)];
  await insertAll(tx, rows);
  for (const hold of holds) {
    if (!enters(hold) || hold.fresh) continue;
    const table = kindOf(hold.kind).name;
    await run(
      tx,
      `UPDATE "${table}" SET ${hold.via ? 'state = $3,' : ''} "currentOperationId" = $2, revision = revision + 1, "updatedAt" = now() WHERE id = $1`,
      hold.via ? [hold.id, operationId, hold.via] : [hold.id, operationId],
    );
  }
  const quotaDelta = projectId ? await enforceQuota(tx, { projectId }, rows) : {};
  if (change.dryRun)
    throw new DryRun({
      steps: (action.steps ?? []).map(({ name, system, undo, when }) => ({
        name,
        system,
        undo,
        ...(when ? { when } : {}),
      })),
      pointOfNoReturn: action.pointOfNoReturn ?? null,
      locks: holds.map(({ kind: resourceKind, id, mode }) => ({ kind: resourceKind, id, mode })),
      placement: accepting.placement,
      quotaDelta,
      costDelta: null,
      waits,
      warnings: accepting.warnings,
    });
  const body = JSON.stringify({
    ...operation,
    revision: 1,
    deletedAt: null,
    cancelRequestedAt: null,
    startedAt: null,
    endedAt: null,
    error: null,
    result: null,
    pointOfNoReturnPassed: false,
  });
  return {
    status: 202,
    body,
    ...(operation.dispatchAt === null
      ? {}
      : {
          start: {
            id: operationId,
            type,
            input: workflowInput,
            targetKind: kind.name,
            targetId: row.id,
            targetName: String(row.name ?? row.id),
            projectId,
          },
        }),
  };
}

async function acceptRecord(change: Change, action: Action, accepting: Accepting): Promise<Outcome> {
  const { tx, kind, verb, row, input, rows } = accepting;
  const projectId = (row.projectId as string | null | undefined) ?? null;
  const audit = auditRow(change, row, projectId, null, input);
  const rights = rightsKinds.has(kind.name);
  const finish = async (state: Row, happened: string): Promise<void> => {
    rows.auditEntry = [{ ...audit, outcome: 'succeeded' }];
    rows.event = [
      eventRow({
        type: `${kind.name}.${happened}`,
        resourceKind: kind.name,
        resourceId: row.id,
        projectId,
        payload: told(kind, state),
      }),
    ];
    await insertAll(tx, rows);
    if (rights) await run(tx, `SELECT pg_notify('belay_rights', '')`);
  };
  const plan = (quotaDelta: Record<string, number> = {}): void => {
    if (change.dryRun)
      throw new DryRun({
        steps: [],
        pointOfNoReturn: null,
        locks: [],
        placement: null,
        quotaDelta,
        costDelta: null,
        waits: false,
        warnings: accepting.warnings,
      });
  };

  if (verb === 'create') {
    rows[kind.name] = [row, ...(rows[kind.name] ?? [])];
    const secrets = secretRows(kind, input, row.id);
    if (secrets.length > 0) rows.secret = secrets;
    await finish(row, happenedOf(verb));
    const owner = ownerOf(kind, row);
    plan(owner ? await enforceQuota(tx, owner, rows) : {});
    return { status: 201, body: JSON.stringify({ ...told(kind, row), ...accepting.answer }), revision: 1, rights };
  }

  revisionFits(change, row);
  if (verb === 'delete') {
    await run(
      tx,
      `UPDATE "${kind.name}" SET "deletedAt" = now(), "updatedAt" = now(), revision = revision + 1 WHERE id = $1`,
      [row.id],
    );
    await run(tx, 'DELETE FROM "secret" WHERE "ownerId" = $1', [row.id]);
    await finish(row, happenedOf(verb));
    plan();
    return { status: 204, body: '', rights };
  }

  // An update, or an action that only changes the record. The hook may have changed the row already.
  const next: Row = { ...row };
  if (verb === 'update') Object.assign(next, patched(kind, row, input));
  else if (action.from && !action.from.includes(String(row.state)))
    throw new Problem(
      'INVALID_STATE',
      `${kind.name} ${row.id} is ${String(row.state)}; ${verb} needs ${action.from.join(' or ')}`,
      { fits: action.from },
    );
  else if (action.to) next.state = action.to;
  next.revision = row.revision + 1;
  next.updatedAt = new Date().toISOString();
  await writeRow(tx, kind, next);
  await finish(next, happenedOf(verb));
  plan();
  return {
    status: 200,
    body: JSON.stringify({ ...told(kind, next), ...accepting.answer }),
    revision: next.revision,
    rights,
  };
}

/** Writes all columns of one row back. */
async function writeRow(tx: Client, kind: Kind, row: Row): Promise<void> {
  const names = columnsOf(kind)
    .map((column) => column.name)
    .filter((name) => !['id', 'createdAt'].includes(name));
  const columns = names.map((name) => `"${name}"`).join(', ');
  await run(
    tx,
    `UPDATE "${kind.name}" SET (${columns}) = (SELECT ${columns} FROM json_populate_record(NULL::"${kind.name}", $2::json)) WHERE id = $1`,
    [row.id, JSON.stringify(row)],
  );
}
