/**
 * How a change becomes a committed transaction: identity, rows, locks, operation, quota, audit – all or nothing. In phases:
 *
 * load what the request names → the action says all it holds, from that alone → lock all in one order → look at the line and load
 * again; other holds now: start over → authorize → refine (quota, placement, rows) → write.
 */
import { createHash } from 'node:crypto';
import { callbackSecretField, refuseDenied } from '../database/callbacks.ts';
import { type Database, insertAll, type Transaction, transaction } from '../database/database.ts';
import { eventRow } from '../database/events.ts';
import { askAgainSeconds } from '../database/queue.ts';
import { rightsChanged } from '../database/rights.ts';
import { forgetSecrets, hasSecret, seal, unseal } from '../database/secrets.ts';
import { from, now, statement, statementOfKind, tableOf, type Values } from '../database/statement.ts';
import { problemOfRule } from '../database/uniqueness.ts';
import { idOf } from '../database/wellKnown.ts';
import { filled } from '../model/actions.ts';
import { isLocked } from '../model/columns.ts';
import { instantAt } from '../model/forms.ts';
import { happenedOf } from '../model/happened.ts';
import type { Action, Kind, LockMode } from '../model/kind.ts';
import { kindOf } from '../model/kinds.ts';
import { Problem } from '../runtime/problem.ts';
import { ancestorsOf } from './ancestors.ts';
import { authorize, checkReferences, projectOf, referencesOf, refuseClosedZone, refuseLocked } from './authorize.ts';
import { type Caller, placeOf } from './caller.ts';
import type { Accepting, Change, Hold, Outcome, Reference, Row, Scene } from './change.ts';
import { refuseEnd } from './dependents.ts';
import {
  covers,
  heldAbove,
  type Key,
  keyOf,
  type Line,
  lineOf,
  lockAll,
  strongest,
  unmet,
  unprotected,
} from './holds.ts';
import { hookOf } from './hooks.ts';
import { refuseTakenId } from './identity.ts';
import { loadAll } from './load.ts';
import { permissionOf, refuseOperatorOnly } from './operatorOnly.ts';
import { patched } from './patch.ts';
import { enforceQuota, type Owner } from './quota.ts';
import { answerOf, changedColumns, masked, newRow, patchSecrets, secretRows, writeColumns } from './records.ts';
import { checkAction, checkCreate, checkPatch } from './validate.ts';

/** What `operation-types` answers of an action is what its dry runs answer. */
const stepsOfType = statement((p: Values<{ id: string }>) =>
  from.selectFrom('operationType').select('steps').where('id', '=', p.id),
);

const rightsKinds = new Set(['domain', 'account', 'project', 'user', 'apiKey', 'role', 'roleBinding']);

/** Keeps a transaction from committing: the dry run has seen what it wanted. */
class DryRun extends Error {
  readonly plan: unknown;

  constructor(plan: unknown) {
    super('dry run');
    this.plan = plan;
  }
}

/** What the change relied on is different now that it is locked: it starts over with what there is. */
class Moved extends Error {
  readonly on: Key;

  constructor(on: Key) {
    super(`${keyOf(on)} was changed meanwhile`);
    this.on = on;
  }
}

/** So often is a change started over before its caller is asked to come again. */
const maxStarts = 10;

export async function acceptChange(database: Database, change: Change): Promise<Outcome> {
  const action = change.kind.actions[change.verb];
  if (!action) throw new Problem('NOT_FOUND', `${change.kind.name} has no action ${change.verb}`);
  const input = checked(change);
  if (change.callbackUrl) await refuseDenied(database.connections, change.callbackUrl);
  for (let start = 1; ; start++) {
    try {
      return await transaction(database, (tx) => once(tx, change, action, structuredClone(input)));
    } catch (error) {
      if (error instanceof DryRun) return { status: 200, body: JSON.stringify(error.plan) };
      if (!(error instanceof Moved)) throw problemOfRule(error) ?? error;
      if (start === maxStarts)
        throw new Problem('RESOURCE_BUSY', `${error.on.kind} ${error.on.id} is being changed by others; try again`, {
          resource: error.on,
          retryAfterSeconds: 1,
        });
    }
  }
}

type AtKey = Values<{ callerId: string; key: string }>;

const takeKey = statement((p: Values<{ callerId: string; key: string; requestHash: string }>) =>
  from
    .insertInto('idempotencyKey')
    .values({ callerId: p.callerId, key: p.key, requestHash: p.requestHash, status: 0, body: '' })
    .onConflict((at) => at.doNothing())
    .returning('key'),
);

const keptAnswer = statement((p: AtKey) =>
  from
    .selectFrom('idempotencyKey')
    .select(['requestHash', 'status', 'body'])
    .where('callerId', '=', p.callerId)
    .where('key', '=', p.key),
);

const keepAnswer = statement((p: Values<{ callerId: string; key: string; status: number; body: string }>) =>
  from
    .updateTable('idempotencyKey')
    .set({ status: p.status, body: p.body })
    .where('callerId', '=', p.callerId)
    .where('key', '=', p.key),
);

async function once(tx: Transaction, change: Change, action: Action, input: Record<string, unknown>): Promise<Outcome> {
  const replay = await replayed(tx, change);
  if (replay) return replay;
  if (change.parent?.refused) throw change.parent.refused;
  const outcome = await accept(tx, change, action, input);
  if (change.idempotencyKey)
    // An answer may hold a secret that is shown once, such as a new API key: it is kept as a secret.
    await keepAnswer(tx, {
      callerId: keeperOf(change),
      key: change.idempotencyKey,
      status: outcome.status,
      body: seal(keeperOf(change), change.idempotencyKey, outcome.body),
    });
  return outcome;
}

/** Whose the key is: of a child it is its parent's. */
const keeperOf = ({ parent, caller }: Change): string => parent?.operationId ?? caller.apiKeyId;

function checked(change: Change): Record<string, unknown> {
  const { kind, verb, body } = change;
  if (verb === 'create') return checkCreate(kind, body);
  if (verb === 'update') return checkPatch(kind, body);
  return checkAction(kind, verb, body);
}

/** Whether its answer is kept: then nothing more has to be found out about it. */
export async function isAnswered({ connections }: Database, change: Change): Promise<boolean> {
  if (!change.idempotencyKey || change.dryRun) return false;
  const kept = await keptAnswer(connections, { callerId: keeperOf(change), key: change.idempotencyKey });
  return kept.length > 0;
}

async function replayed(tx: Transaction, change: Change): Promise<Outcome | null> {
  if (!change.idempotencyKey || change.dryRun) return null;
  const hash = createHash('sha256')
    .update(JSON.stringify([change.kind.name, change.verb, change.targetId, change.asked ?? change.body ?? null]))
    .digest('hex');
  const at = { callerId: keeperOf(change), key: change.idempotencyKey };
  const mine = await takeKey(tx, { ...at, requestHash: hash });
  if (mine.length > 0) {
    await change.takeKey?.(tx, change.caller.accountId);
    return null;
  }
  const [first] = await keptAnswer(tx, at);
  if (first?.requestHash !== hash)
    throw new Problem('IDEMPOTENCY_MISMATCH', 'this Idempotency-Key was used with another request');
  return { status: first.status, body: unseal(keeperOf(change), change.idempotencyKey, first.body) };
}

/** Whether the action is the end of what it acts on, be it for now or for good. */
const ends = (action: Action, verb: string): boolean => verb === 'delete' || action.lock === 'D';

/**
 * What an action holds: its target, what its command adds, and S on what the request names. Told from the scene alone. `above` are the keys
 * of what operations above this one hold: that it may end has been asked when they were accepted. `givesWay` is the operation inside whose hold of
 * the target it works, though it is no part of that.
 */
function holdsOf(
  action: Action,
  { verb, conditions = [] }: Pick<Change, 'verb' | 'conditions'>,
  scene: Scene,
  references: Reference[],
  above: ReadonlyMap<string, string>,
  foreseen: readonly Hold[],
  givesWay: string | null,
): Hold[] {
  const hook = hookOf(scene.kind.name, verb);
  const target: Hold = {
    kind: scene.kind.name,
    id: scene.row.id,
    mode: action.lock ?? (verb === 'delete' ? 'D' : 'X'),
    ...(givesWay === null ? (action.from ? { from: action.from } : {}) : { within: givesWay, overtakes: true }),
    conditions: [
      ...conditions,
      ...(hook?.conditions?.(scene) ?? []),
      ...(ends(action, verb) && !above.has(keyOf({ kind: scene.kind.name, id: scene.row.id }))
        ? unprotected(scene.kind, scene.row.id)
        : []),
    ],
    via: action.via ?? null,
    to: action.to ?? null,
    fresh: verb === 'create',
  };
  const pins = references
    .filter(({ kind }) => isLocked(kindOf(kind)))
    .map(({ kind, id }): Hold => ({ kind, id, mode: 'S' }));
  const targets = action.on === 'collection' || action.holdsTarget === false ? [] : [target];
  // What is foreseen of the target itself says more than the action does.
  const all = [...foreseen, ...targets, ...(hook?.holds?.(scene) ?? []), ...pins];
  return all
    .filter((hold, index) => all.findIndex((other) => keyOf(other) === keyOf(hold)) === index)
    .map((hold) => {
      const within = above.get(keyOf(hold));
      return within ? { ...hold, within } : hold;
    });
}

async function accept(
  tx: Transaction,
  change: Change,
  action: Action,
  input: Record<string, unknown>,
): Promise<Outcome> {
  const { kind, verb, caller } = change;
  const creating = verb === 'create';
  const hook = hookOf(kind.name, verb);
  const references = referencesOf(kind, verb, input);
  const collective = action.on === 'collection';
  const projectId = creating
    ? await projectOf(tx, caller, kind, input)
    : ((await hook?.project?.(tx, caller, input)) ?? null);
  const operationId = action.mode === 'operation' ? crypto.randomUUID() : null;
  const fresh = creating
    ? { ...newRow(kind, input, projectId, operationId, action.via ?? action.to), ...change.marks }
    : // What acts on a collection has itself for a target.
      collective
      ? { id: operationId ?? crypto.randomUUID(), revision: 0, projectId }
      : null;
  const named: Key[] = [
    ...(change.targetId ? [{ kind: kind.name, id: change.targetId }] : []),
    ...(projectId ? [{ kind: 'project', id: projectId }] : []),
    ...references,
  ];

  /** The scene as it is now: what the request names, and what the command wants to know beside it. */
  const look = async (): Promise<Scene & { loaded: Map<string, Row> }> => {
    const loaded = await loadAll(tx, named);
    const row = fresh ?? loaded.get(`${kind.name}/${change.targetId}`);
    if (!row) throw new Problem('NOT_FOUND', `there is no ${kind.name} ${change.targetId}`);
    const scene = { kind, input, row, loaded };
    const home = hook?.livesIn?.(row);
    const related = [...(home ? [home] : []), ...(hook?.related?.(scene) ?? [])];
    for (const [key, found] of await loadAll(tx, related)) loaded.set(key, found);
    if (hook?.foresee) {
      foreseen = await hook.foresee(tx, caller, scene);
      for (const [key, found] of await loadAll(tx, foreseen)) loaded.set(key, found);
    }
    return scene;
  };
  let above: ReadonlyMap<string, string> = new Map();
  let foreseen: Hold[] = [];
  let givesWay: string | null = null;
  const claim = (scene: Scene): Hold[] => holdsOf(action, change, scene, references, above, foreseen, givesWay);
  const locksFor = (holds: Hold[]): Map<string, LockMode> =>
    strongest([...named.map((key) => ({ ...key, mode: 'S' as const })), ...holds.filter((hold) => !hold.fresh)]);

  // Only holds that follow from rows have to be looked up before the locks.
  const foretold: Scene =
    hook?.related || hook?.foresee
      ? await look()
      : { kind, input, row: fresh ?? { id: String(change.targetId), revision: 0 }, loaded: new Map() };
  const locked = locksFor(claim(foretold));
  await lockAll(tx, locked);
  if (change.parent)
    above = await heldAbove(tx, await ancestorsOf(tx, change.parent.operationId), [
      ...claim(foretold),
      ...named.map((key): Hold => ({ ...key, mode: 'S' })),
    ]);
  if (change.targetId) givesWay = (await hook?.givesWay?.(tx, { id: change.targetId, input })) ?? null;
  const stays = staying(change, action, projectId, references, above);
  // The line before the rows: an operation that ends in between is still seen in the line, and not missed in both.
  const line = await lineOf(tx, [
    ...claim(foretold).filter(({ mode }) => mode === 'S' || action.mode === 'operation'),
    ...stays,
  ]);
  const scene = await look();
  const { row, loaded } = scene;
  const holds = claim(scene);
  if (!covers(locked, holds)) throw new Moved({ kind: kind.name, id: row.id });
  authorize(change, row, loaded);

  const livesIn = fresh ? projectId : ((row.projectId as string | null | undefined) ?? null);
  const project = projectId ? (loaded.get(`project/${projectId}`) ?? null) : null;
  if (projectId && !project)
    throw new Problem('NOT_FOUND', `there is no project ${projectId}`, {
      violations: [{ field: 'projectId', message: 'there is no such project' }],
    });
  if (project && project.state !== 'active')
    throw new Problem('INVALID_STATE', `project ${project.id} is ${String(project.state)}`);
  checkReferences(caller, references, loaded, livesIn, above);
  refuseOperatorOnly(change, action, input);
  if (creating) refuseClosedZone(kind, input, loaded);
  let unlocked: Promise<void> | undefined;
  const refuseIfLocked = (): Promise<void> => {
    unlocked ??= refuseLocked(tx, caller, row, loaded);
    return unlocked;
  };
  if (creating || action.starts) await refuseIfLocked();
  if (creating && typeof input.requestedId === 'string') await refuseTakenId(tx, input.requestedId);

  const accepting: Accepting = {
    tx,
    caller,
    kind,
    verb,
    input,
    row: { ...row },
    project,
    references: loaded,
    operationId,
    parentOperationId: change.parent?.operationId ?? null,
    rows: {},
    makes: [],
    // Of a create the records hold everything; of an action the workflow must be told. Actions take no secrets.
    workflowInput: { ...(creating ? {} : filled(action, input)), ...change.found },
    placement: null,
    refuseLocked: refuseIfLocked,
    answer: {},
    warnings: [],
    dryRun: change.dryRun,
    plan: null,
  };
  if (!creating) {
    if (row.managedBy && !['update'].includes(verb))
      throw new Problem('MANAGED', `${kind.name} ${row.id} changes only through what manages it`, {
        managedBy: row.managedBy,
      });
    if (ends(action, verb)) {
      const mayEnd = above.has(keyOf({ kind: kind.name, id: row.id }));
      // What can be recovered goes before what hangs on it, which can not.
      const dependentsGo = hook?.dependentsGo?.(input) ?? (mayEnd && action.to === 'destroyed');
      await refuseEnd(tx, caller, kind, row, { dependentsGo, mayEnd });
    }
  }
  if (action.mode === 'operation') refuseUnfit(change, holds, line, loaded);
  else for (const { kind: of, id } of references) refuseEnding({ kind: of, id }, line);
  for (const key of stays) refuseEnding(key, line);
  hook?.refuse?.(row);
  await change.refuse?.(tx);
  await hook?.accept?.(accepting);
  return action.mode === 'operation'
    ? acceptOperation(change, action, accepting, holds, line)
    : acceptRecord(change, action, accepting, row);
}

/** What is nobody's to hold but a cascade's, and must not be about to go: what is made lives in its project and in what it names, and what is changed itself. */
function staying(
  { kind, targetId }: Change,
  action: Action,
  projectId: string | null,
  references: readonly Reference[],
  above: ReadonlyMap<string, string>,
): Hold[] {
  const keys = [
    ...(projectId ? [{ kind: 'project', id: projectId }] : []),
    ...references.flatMap((one) => (isLocked(kindOf(one.kind)) ? [] : [{ kind: one.kind, id: one.id }])),
    ...(targetId && (action.holdsTarget === false || (action.mode === 'sync' && !isLocked(kind)))
      ? [{ kind: kind.name, id: targetId }]
      : []),
  ];
  return keys.map((key) => {
    const within = above.get(keyOf(key));
    return { ...key, mode: 'S', ...(within ? { within } : {}) };
  });
}

/** Refuses what can not begin: conditions on what is free right now. Whatever others change first is looked at when its turn comes. */
function refuseUnfit(change: Change, holds: Hold[], line: Line, loaded: ReadonlyMap<string, Row>): void {
  const action = `${change.kind.name}.${change.verb}`;
  if (line.waitsFor && change.onBusy === 'fail')
    throw new Problem(
      'RESOURCE_BUSY',
      `another operation holds or waits for ${line.waitsFor.kind} ${line.waitsFor.id}`,
      {
        resource: line.waitsFor,
        retryAfterSeconds: 1,
      },
    );
  for (const hold of holds) {
    if (hold.fresh || hold.mode === 'S') continue;
    const row = loaded.get(keyOf(hold));
    // A fault stays until a person has looked, so nobody waits behind it.
    const refused = unmet(
      line.busy.has(keyOf(hold)) ? { kind: hold.kind, id: hold.id, mode: hold.mode } : hold,
      row,
      action,
    );
    if (refused) throw new Problem(refused.code, refused.message, refused.details);
  }
}

/** A change of records alone does not wait: what is about to go is not named by something new. */
function refuseEnding(key: Key, line: Line): void {
  if (line.ending.has(keyOf(key)))
    throw new Problem('RESOURCE_BUSY', `${key.kind} ${key.id} is about to be deleted`, {
      resource: key,
      retryAfterSeconds: 1,
    });
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
    permission: permissionOf(change),
    resourceKind: change.kind.name,
    resourceId: row.id,
    input: masked(change.kind, input),
    outcome: 'allowed',
    operationId,
    requestId: change.requestId,
  };
}

async function callbackRow(
  tx: Transaction,
  { apiKeyId, accountId }: Caller,
  operationId: string,
  url: string,
): Promise<Record<string, unknown>> {
  if (!(await hasSecret(tx, { kind: 'apiKey', id: apiKeyId }, callbackSecretField)))
    throw new Problem('INVALID_ARGUMENT', 'this API key has no secret to sign callbacks with; make a new key', {
      violations: [{ field: 'Belay-Callback-Url', message: 'the API key has no callback secret' }],
    });
  return { operationId, apiKeyId, accountId, url };
}

/** Whose quota a new row counts for. */
function ownerOf(kind: Kind, row: Row): Owner | null {
  if (typeof row.projectId === 'string') return { projectId: row.projectId };
  const accountId = kind.lies?.account === 'id' ? row.id : row.accountId;
  return typeof accountId === 'string' ? { accountId } : null;
}

type Entry = Values<{ id: string; operationId: string; revision: number; within: string | null }>;

/** A resource that is as it was read, and held by nobody, or by the operation above within whose hold the new one works. */
const entering = (kind: Kind, p: Entry) =>
  from
    .updateTable(tableOf(kind))
    .set((eb) => ({ currentOperationId: p.operationId, revision: eb('t.revision', '+', 1), updatedAt: now }))
    .where('t.id', '=', p.id)
    .where('t.revision', '=', p.revision)
    .where('t.currentOperationId', 'is not distinct from', p.within)
    .where('t.deletedAt', 'is', null)
    .returning('t.id');

const enter = statementOfKind(entering, isLocked);
const enterVia = statementOfKind(
  (kind, p: Entry & Values<{ via: string }>) => entering(kind, p).set({ state: p.via }),
  (kind) => isLocked(kind) && kind.states !== undefined,
);

async function acceptOperation(
  change: Change,
  action: Action,
  accepting: Accepting,
  standing: Hold[],
  line: Line,
): Promise<Outcome> {
  const { tx, kind, verb, row, input, rows, references } = accepting;
  const operationId = accepting.operationId ?? '';
  const creating = verb === 'create';
  revisionFits(change, row);
  const waits = line.waitsFor !== null;
  const holds: Hold[] = [
    ...standing.map((hold) =>
      hold.kind === kind.name && hold.id === row.id && accepting.to ? { ...hold, to: accepting.to } : hold,
    ),
    ...accepting.makes.map((made): Hold => ({ ...made, mode: 'X', fresh: true })),
  ];
  const holdsAtOnce = (hold: Hold): boolean => hold.fresh === true || !waits;
  const stateOf = (hold: Hold): string => String(references.get(keyOf(hold))?.state ?? '');
  if (creating) rows[kind.name] = [row, ...(rows[kind.name] ?? [])];
  const projectId = placeOf(kind, row).projectId ?? null;
  const now = instantAt();
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
    dispatchAt: waits || change.leftToDispatcher ? null : instantAt(new Date(Date.now() + askAgainSeconds * 1000)),
    requestId: change.requestId,
    parentOperationId: change.parent?.operationId ?? null,
  };
  rows.operation = [operation];
  rows.operationLock = holds.map((hold) => ({
    operationId,
    resourceKind: hold.kind,
    resourceId: hold.id,
    mode: hold.mode,
    entered: holdsAtOnce(hold),
    fromStates: hold.from ?? [],
    conditions: hold.conditions ?? [],
    viaState: hold.via ?? null,
    fromState: holdsAtOnce(hold) && !hold.fresh && hold.mode !== 'S' ? stateOf(hold) : null,
    toState: hold.to ?? null,
    within: hold.within ?? null,
  }));
  rows.auditEntry = [auditRow(change, row, projectId, operationId, input)];
  if (creating) {
    const secrets = secretRows(kind, input, row.id);
    if (secrets.length > 0) rows.secret = secrets;
  }
  if (change.callbackUrl) rows.callback = [await callbackRow(tx, change.caller, operationId, change.callbackUrl)];
  await insertAll(tx, rows);
  for (const hold of holds) {
    if (!holdsAtOnce(hold) || hold.fresh || hold.mode === 'S' || !isLocked(kindOf(hold.kind))) continue;
    // Whoever could change it now would be in the line; that it is as it was read is asked all the same.
    const entry = {
      id: hold.id,
      operationId,
      revision: references.get(keyOf(hold))?.revision ?? 0,
      within: hold.within ?? null,
    };
    const [entered] = hold.via
      ? await enterVia(kindOf(hold.kind))(tx, { ...entry, via: hold.via })
      : await enter(kindOf(hold.kind))(tx, entry);
    if (!entered) throw new Moved({ kind: hold.kind, id: hold.id });
  }
  const quotaDelta = projectId ? await enforceQuota(accepting, { projectId }, rows) : {};
  if (change.dryRun)
    throw new DryRun({
      steps: (await stepsOfType(tx, { id: idOf(`operationType/${type}`) }))[0]?.steps ?? [],
      pointOfNoReturn: action.pointOfNoReturn ?? null,
      locks: holds.map(({ kind: resourceKind, id, mode }) => ({ kind: resourceKind, id, mode })),
      placement: accepting.placement,
      quotaDelta,
      costDelta: null,
      waits,
      warnings: accepting.warnings,
      plan: accepting.plan,
    });
  const body = JSON.stringify({
    ...operation,
    revision: 1,
    deletedAt: null,
    cancelRequestedAt: null,
    waitsFor: null,
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

async function acceptRecord(change: Change, action: Action, accepting: Accepting, before: Row): Promise<Outcome> {
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
        payload: answerOf(kind, state),
      }),
    ];
    await insertAll(tx, rows);
    if (rights) await rightsChanged(tx);
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
        plan: null,
      });
  };

  if (verb === 'create') {
    rows[kind.name] = [row, ...(rows[kind.name] ?? [])];
    const secrets = secretRows(kind, input, row.id);
    if (secrets.length > 0) rows.secret = secrets;
    await finish(row, happenedOf(kind, verb));
    const owner = ownerOf(kind, row);
    plan(owner ? await enforceQuota(accepting, owner, rows) : {});
    return { status: 201, body: JSON.stringify({ ...answerOf(kind, row), ...accepting.answer }), revision: 1, rights };
  }

  revisionFits(change, row);
  const write = async (next: Row, columns: readonly string[]): Promise<Row> => {
    const written = await writeColumns(tx, kind, next, columns);
    if (!written) throw new Moved({ kind: kind.name, id: row.id });
    return written;
  };
  if (verb === 'delete') {
    await write({ ...row, deletedAt: instantAt() }, ['deletedAt']);
    await forgetSecrets(tx, { kind: kind.name, id: row.id });
    await finish(row, happenedOf(kind, verb));
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
  const now = await write(next, changedColumns(kind, before, next));
  if (verb === 'update') await patchSecrets(tx, kind, input, row.id);
  await finish(now, happenedOf(kind, verb));
  plan();
  return {
    status: 200,
    body: JSON.stringify({ ...answerOf(kind, now), ...accepting.answer }),
    revision: now.revision,
    rights,
  };
}
