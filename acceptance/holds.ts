/** The line of operations before a resource: who stands in it, and whether what an operation holds is as it must be. */
import type { Transaction } from '../database/database.ts';
import { holdersOf, lockKeys, modesBefore } from '../database/locks.ts';
import type { Kind, LockMode } from '../model/kind.ts';
import { Problem, type ProblemCode, type ProblemDetails } from '../runtime/problem.ts';
import type { Condition, Hold, Row } from './change.ts';

export interface Key {
  kind: string;
  id: string;
}

export const keyOf = ({ kind, id }: Key): string => `${kind}/${id}`;

const strength: Record<LockMode, number> = { S: 0, X: 1, D: 2 };

/** Each resource once, in its strongest mode, in the one order in which all lock. */
export function strongest(locks: readonly (Key & { mode: LockMode })[]): Map<string, LockMode> {
  const modes = new Map<string, LockMode>();
  for (const lock of locks) {
    const key = keyOf(lock);
    const known = modes.get(key);
    if (!known || strength[lock.mode] > strength[known]) modes.set(key, lock.mode);
  }
  return new Map([...modes].sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** Whether all that is held is covered by what was locked. */
export const covers = (locked: Map<string, LockMode>, holds: readonly Hold[]): boolean =>
  holds.every((hold) => {
    const mode = hold.fresh ? hold.mode : locked.get(keyOf(hold));
    // S is locked shared, X and D alone.
    return mode !== undefined && (mode !== 'S' || hold.mode === 'S');
  });

/** Locks in one order what the change touches, until its transaction ends: places in line are in the order of commits, and no two changes wait in a circle. */
export async function lockAll(tx: Transaction, modes: Map<string, LockMode>): Promise<void> {
  await lockKeys(tx, { keys: [...modes.keys()], alone: [...modes.values()].map((mode) => mode !== 'S') });
}

/**
 * Which of the operations above a new one hold what that needs, by the keys of the resources: the nearest first. What an ancestor holds, its
 * descendants use, each in turn with the others of them: they stand in a line of their own inside that hold.
 *
 * @throws Problem INVALID_STATE when one needs more of a resource than its ancestor holds: it would wait for that, and that for it
 */
export async function heldAbove(
  tx: Transaction,
  ancestors: readonly string[],
  holds: readonly Hold[],
): Promise<Map<string, string>> {
  const known = holds.filter(({ fresh }) => !fresh);
  const rows = await holdersOf(tx, {
    kinds: known.map(({ kind }) => kind),
    ids: known.map(({ id }) => id),
    operationIds: ancestors,
  });
  const modes = strongest(known);
  for (const row of rows) {
    const wanted = modes.get(keyOf(row)) ?? 'S';
    if (strength[wanted] > strength[row.mode])
      throw new Problem(
        'INVALID_STATE',
        `${row.kind} ${row.id} is held by operation ${row.operationId} above this one, and not for this`,
        { resource: { kind: row.kind, id: row.id } },
      );
  }
  return new Map(rows.map((row) => [keyOf(row), row.operationId]));
}

export interface Line {
  /** Others change or end these, or wait to do so. */
  busy: Set<string>;
  /** Others end these, or wait to do so. */
  ending: Set<string>;
  /** The first resource for which this one has to wait; null when its turn is now. */
  waitsFor: Key | null;
}

/** Who stands in line before the resources; asked under their locks. */
export async function lineOf(tx: Transaction, holds: readonly Hold[]): Promise<Line> {
  const known = holds.filter(({ fresh }) => !fresh);
  if (known.length === 0) return { busy: new Set(), ending: new Set(), waitsFor: null };
  // Those who only need it to stay may be thousands: they are asked for only where that matters.
  const ending = known.filter(({ mode }) => mode === 'D');
  const locks = await modesBefore(tx, {
    kinds: known.map(({ kind }) => kind),
    ids: known.map(({ id }) => id),
    within: known.map(({ within }) => within ?? null),
    endingKinds: ending.map(({ kind }) => kind),
    endingIds: ending.map(({ id }) => id),
    endingWithin: ending.map(({ within }) => within ?? null),
  });
  const modes = new Map(known.map((hold) => [keyOf(hold), hold.mode]));
  const blocking = locks.find((lock) => {
    const mine = modes.get(keyOf(lock));
    return lock.mode === 'D' || mine === 'D' || (lock.mode === 'X' && mine === 'X');
  });
  return {
    busy: new Set(locks.flatMap((lock) => (lock.mode === 'S' ? [] : [keyOf(lock)]))),
    ending: new Set(locks.flatMap((lock) => (lock.mode === 'D' ? [keyOf(lock)] : []))),
    waitsFor: blocking ? { kind: blocking.kind, id: blocking.id } : null,
  };
}

/** States in which a resource can not be used by others: it is not there yet, or not any more. */
const unusable = new Set([
  'creating',
  'adding',
  'failed',
  'deleting',
  'destroyed',
  'destroying',
  'expunging',
  'awaitingUpload',
  'importing',
]);

export interface Unmet {
  code: ProblemCode;
  message: string;
  details: ProblemDetails;
}

/**
 * Why a resource is not as an operation needs it; null when it is. The one rule for acceptance, and for the moment when the turn
 * has come. `row` is the resource as it is now, undefined when it is gone.
 */
export function unmet(hold: Hold, row: Record<string, unknown> | undefined, action: string): Unmet | null {
  const name = `${hold.kind} ${hold.id}`;
  const details: ProblemDetails = { resource: { kind: hold.kind, id: hold.id } };
  if (!row || row.deletedAt) return { code: 'NOT_FOUND', message: `${name} is gone`, details };
  if (row.fault && !hold.overtakes)
    return { code: 'RESOURCE_FAULTED', message: `${name} is held by a stuck operation`, details };
  const state = (row.state as string | null | undefined) ?? null;
  // What an ancestor is ending, its descendants use until it has ended.
  if (hold.mode === 'S' && !hold.within && unusable.has(String(state)))
    return { code: 'INVALID_STATE', message: `${name} is ${state}`, details };
  if (hold.from && hold.from.length > 0 && !hold.from.includes(state ?? ''))
    return {
      code: 'INVALID_STATE',
      message: `${name} is ${state}; ${action} needs ${hold.from.join(' or ')}`,
      details: { ...details, state, fits: hold.from },
    };
  const broken = hold.conditions?.find(({ field, is }) => (row[field] ?? null) !== is);
  return broken ? { code: broken.code, message: broken.message, details } : null;
}

/** What ends, or goes along, must not be protected: whoever protects it while the end waits in line is heard. */
export const unprotected = (kind: Kind, id: string): Condition[] =>
  kind.fields.deleteProtection
    ? [
        {
          field: 'deleteProtection',
          is: false,
          code: 'PROTECTED',
          message: `${kind.name} ${id} is protected; set deleteProtection to false first`,
        },
      ]
    : [];

/** Rows of one kind among the loaded, in the order of their ids. */
export const loadedOf = (loaded: ReadonlyMap<string, Row>, kind: string): Row[] =>
  [...loaded].flatMap(([key, row]) => (key.startsWith(`${kind}/`) ? [row] : [])).sort((a, b) => (a.id < b.id ? -1 : 1));
