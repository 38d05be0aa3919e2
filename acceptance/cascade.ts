/**
 * The delete of a resource with all that hangs on it. All of that is held from the beginning, by the operation that its deletes are children of: so
 * that what was asked when it was accepted is still so when it runs, and a blocker anywhere refuses the whole before anything is touched.
 */
import type { Transaction } from '../database/database.ts';
import { from, isAmong, statement, type Values } from '../database/statement.ts';
import { cascadeChildren, cascadeMax } from '../model/cascade.ts';
import type { Kind } from '../model/kind.ts';
import { kindOf } from '../model/kinds.ts';
import { Problem } from '../runtime/problem.ts';
import { type Caller, isOperator, may, placeOf } from './caller.ts';
import { type Accepting, type Hold, type Hook, type Related, type Row, type Scene, tell } from './change.ts';
import { type Dependent, everything, type Going, named, others, walkDown } from './dependents.ts';
import { keyOf, unprotected } from './holds.ts';
import { loadAll } from './load.ts';
import { waysHeld } from './network/waysIn.ts';
import { invalid } from './violation.ts';

/** Whether it can be recovered for a while after its delete. */
export const hasTrash = (kind: string): boolean => kindOf(kind).actions.expunge !== undefined;

/** What leads from outside to interfaces that go is detached before. */
const waysInto = async (tx: Transaction, going: readonly Going[]): Promise<Hold[]> =>
  waysHeld(
    tx,
    going.flatMap(({ kind, id }) => (kind === 'networkInterface' ? [id] : [])),
  );

type HookFor = (kind: string, verb: string) => Hook | undefined;

/** The states in which it can go; undefined where any will do. */
function statesOf(kind: Kind): readonly string[] | undefined {
  const ways = ['delete', 'expunge'].flatMap((verb) => kind.actions[verb] ?? []);
  const known = ways.flatMap(({ from }) => (from ? [from] : []));
  return known.length === ways.length ? known.flat() : undefined;
}

const foreseeBy =
  (hookFor: HookFor) =>
  async (tx: Transaction, caller: Caller, { kind, row }: { kind: Kind; row: Row }): Promise<Hold[]> => {
    const { going } = await walkDown(tx, caller, kind, row, everything);
    const held = going.map(({ kind: of, id, onDelete }): Hold => {
      const from = id === row.id || onDelete !== 'own' ? statesOf(kindOf(of)) : undefined;
      return { kind: of, id, mode: 'D', conditions: unprotected(kindOf(of), id), ...(from ? { from } : {}) };
    });
    return [...held, ...(await waysInto(tx, going)), ...(await besides(tx, hookFor, separate(going, row.id)))];
  };

/**
 * What the children hold beside what goes, such as the disks that an instance only lets go of. It is held from the beginning too: who came into
 * line there later would be before the child, and wait for what goes.
 */
async function besides(tx: Transaction, hookFor: HookFor, alone: readonly Dependent[]): Promise<Hold[]> {
  const rows = await loadAll(tx, alone);
  const asked = alone.flatMap((one) => {
    const row = rows.get(keyOf(one));
    return ['delete', 'expunge'].flatMap((verb) => {
      const hook = hookFor(one.kind, verb);
      if (!row || !hook?.holds) return [];
      const scene: Scene = { kind: kindOf(one.kind), input: {}, row, loaded: rows };
      return [{ hook, scene, related: hook.related?.(scene) ?? [] }];
    });
  });
  const found = await loadAll(
    tx,
    asked.flatMap(({ related }) => related),
  );
  const byPlace = new Map<string, [string, Row][]>();
  const place = ({ kind, by = 'id', id }: Related): string => `${kind}.${by}/${id}`;
  const fields = new Set(asked.flatMap(({ related }) => related.map(({ kind, by = 'id' }) => `${kind}.${by}`)));
  for (const entry of found)
    for (const field of fields) {
      const [kind = '', by = ''] = field.split('.');
      if (!entry[0].startsWith(`${kind}/`)) continue;
      const key = place({ kind, by, id: String(entry[1][by]) });
      byPlace.set(key, [...(byPlace.get(key) ?? []), entry]);
    }
  return asked.flatMap(({ hook, scene, related }) => {
    const loaded = new Map(related.flatMap((one) => byPlace.get(place(one)) ?? []));
    return (hook.holds?.({ ...scene, loaded }) ?? []).map(({ kind, id, mode }): Hold => ({ kind, id, mode }));
  });
}

/** What goes by a delete of its own; the rest goes along with one of them. */
export const separate = (going: readonly Going[], targetId: string): Going[] =>
  going.filter(({ id, onDelete }) => id === targetId || onDelete !== 'own');

function refuseWithout(
  caller: Caller,
  verb: string,
  { kind, id, visible, name }: Dependent,
  row: Row | undefined,
): void {
  const permission = `${kind}.${verb}`;
  const isTheirs = !kindOf(kind).actions[verb]?.operatorOnly || isOperator(caller, permission);
  if (row && isTheirs && may(caller, permission, placeOf(kindOf(kind), row))) return;
  throw new Problem(
    'FORBIDDEN',
    visible
      ? `you need the permission ${permission} on ${kind} ${name || id}, which goes along`
      : 'something that you may not see goes along',
  );
}

async function accept(accepting: Accepting, hookFor: HookFor): Promise<void> {
  const { tx, caller, kind, row, input, references } = accepting;
  const { going, blocking, complete } = await walkDown(tx, caller, kind, row, everything);
  if (!complete || going.length > cascadeMax)
    throw new Problem(
      'NOT_SUPPORTED',
      `more than ${cascadeMax} hang on ${kind.name} ${row.id}: delete some of it first`,
    );
  const [blocker] = blocking;
  if (blocker)
    throw new Problem(
      'HAS_DEPENDENTS',
      `${kind.name} ${row.id} is in use: ${named(blocking.find(({ visible }) => visible) ?? blocker)} hangs on it`,
      {
        blockers: others(blocking),
      },
    );
  const alone = separate(going, row.id);
  // What can be recovered is destroyed, which may be taken back, and freed; an attached disk is detached before, a guest is stopped.
  const ways = await waysInto(tx, going);
  const children = alone.reduce((sum, one) => sum + (hasTrash(one.kind) ? 4 : 1), 2 * ways.length);
  if (children > cascadeChildren)
    throw new Problem(
      'NOT_SUPPORTED',
      `${alone.length} that hang on ${kind.name} ${row.id} are too much work for one operation: delete some instances and volumes first`,
    );
  const beside = alone.filter(({ id }) => id !== row.id);
  if (beside.length > 0 && input.cascade !== true)
    throw new Problem(
      'HAS_DEPENDENTS',
      `${named(beside.at(-1) as Dependent)} hangs on ${kind.name} ${row.id}: delete it with cascade`,
      {
        blockers: others(beside),
      },
    );
  const protectedOnes = going.filter(({ deleteProtection }) => deleteProtection);
  if (protectedOnes[0])
    throw new Problem('PROTECTED', `${named(protectedOnes[0])} is protected; set its deleteProtection to false first`, {
      blockers: others(protectedOnes),
    });
  const managed = going.filter((one) => one.managed);
  if (managed[0])
    throw new Problem('MANAGED', `${named(managed[0])} changes only through what manages it`, {
      blockers: others(managed),
    });
  for (const one of alone) {
    const found = references.get(keyOf(one));
    if (found) hookFor(one.kind, 'delete')?.refuse?.(found);
    // Whether the caller may delete the target itself has been asked.
    if (one.id !== row.id) refuseWithout(caller, 'delete', one, found);
    if (hasTrash(one.kind) && input.expunge) refuseWithout(caller, 'expunge', one, found);
  }
  if (!input.expunge && alone.some((one) => one.id !== row.id && hasTrash(one.kind)))
    throw invalid('expunge', 'is needed: what could be recovered for a while goes along, and nothing of it may stay');
  await refuseAttached(tx, alone);
  tell(accepting, 'cascade', { kind: kind.name, id: row.id });
}

const attachedElsewhere = statement((p: Values<{ volumes: string[]; instances: string[] }>) =>
  from
    .selectFrom('volume')
    .select(['id', 'instanceId'])
    .where((eb) => isAmong(eb.ref('id'), p.volumes))
    .where('instanceId', 'is not', null)
    .$narrowType<{ instanceId: string }>()
    .where((eb) => eb.not(isAmong(eb.ref('instanceId'), p.instances)))
    .limit(1),
);

/** A volume that an instance keeps is in use there. */
async function refuseAttached(tx: Transaction, alone: readonly Dependent[]): Promise<void> {
  const of = (kind: string): string[] => alone.filter((one) => one.kind === kind).map(({ id }) => id);
  const volumes = of('volume');
  if (volumes.length === 0) return;
  const [attached] = await attachedElsewhere(tx, { volumes, instances: of('instance') });
  if (attached)
    throw new Problem('ALREADY_ATTACHED', `volume ${attached.id} is attached to an instance`, {
      resource: { kind: 'instance', id: attached.instanceId },
    });
}

/** Who may ask for it is who may ask for the delete. */
export const cascadeOf = (hookFor: HookFor, { livesIn, permittedAt, isOwn, mine }: Hook = {}): Hook => ({
  ...(livesIn ? { livesIn } : {}),
  ...(permittedAt ? { permittedAt } : {}),
  ...(isOwn ? { isOwn } : {}),
  ...(mine ? { mine } : {}),
  foresee: foreseeBy(hookFor),
  // What hangs on it goes along, and is looked at above.
  dependentsGo: () => true,
  accept: (accepting) => accept(accepting, hookFor),
});
