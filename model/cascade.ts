/** The delete of a resource with all that hangs on it: one action, the same for every kind. */
import { Type } from 'typebox';
import { type Action, type Kind, object, Uuid } from './kind.ts';

/** So many resources go in one operation. */
export const cascadeMax = 1_000;

/**
 * So many operations at the most, forward and back: each leaves up to fifteen events in the history of the run that waits for it, and Temporal ends a run
 * at 51,200.
 */
export const cascadeChildren = 3_100;

const child = { system: 'operation', when: 'once for each of what goes' } as const;

export const cascade = {
  summary: 'Remove it with what hangs on it, the leaves first',
  happened: 'deletedWithAll',
  mode: 'operation',
  on: 'delete',
  lock: 'D',
  cancellable: true,
  input: object({
    cascade: Type.Optional(
      Type.Boolean({
        description: 'What hangs on it goes first; the view deletePlan tells what that is, and what is in the way',
      }),
    ),
    expunge: Type.Optional(
      Type.Boolean({ description: 'What could be recovered for a while is freed at once, and can not be recovered' }),
    ),
  }),
  tells: object({ kind: Type.String(), id: Uuid }),
  pointOfNoReturn: 'remove',
  steps: [
    'cascades.plan',
    { ...child, name: 'destroy', undo: 'recover it, start it, attach it' },
    { ...child, name: 'remove', undo: null },
  ],
} as const satisfies Action;

/** Who refers to whom, so that it has to go first. What only goes along with an owner counts as that. */
type Refers = (kind: Kind) => readonly { kind: Kind; field: string; onDelete: string; ownWhen?: unknown }[];

/** Kinds in the order in which they are removed: whatever refers goes before what it refers to. */
export function removalOrderOf(kinds: readonly Kind[], childrenOf: Refers): string[] {
  const owners = new Map<string, string>();
  for (const kind of kinds)
    for (const { kind: child, onDelete, ownWhen } of childrenOf(kind))
      if (onDelete === 'own' && !ownWhen && !child.actions.delete) owners.set(child.name, kind.name);
  const unit = (name: string): string => owners.get(name) ?? name;
  /** With whom a kind goes at times: what it refers to has to wait for these, too. */
  const maybe = new Map<string, string[]>();
  for (const kind of kinds)
    for (const { kind: child, ownWhen } of childrenOf(kind))
      if (ownWhen) maybe.set(child.name, [...(maybe.get(child.name) ?? []), kind.name]);
  const before = new Map<string, Set<string>>();
  for (const kind of kinds)
    for (const { kind: child, onDelete } of childrenOf(kind)) {
      if (onDelete === 'ignore') continue;
      for (const name of [child.name, ...(maybe.get(child.name) ?? [])].map(unit))
        if (name !== unit(kind.name)) before.set(unit(kind.name), (before.get(unit(kind.name)) ?? new Set()).add(name));
    }
  const order: string[] = [];
  const place = (name: string, path: readonly string[]): void => {
    if (order.includes(name)) return;
    if (path.includes(name)) throw new Error(`kinds refer to each other in a circle: ${[...path, name].join(', ')}`);
    for (const child of [...(before.get(name) ?? [])].sort()) place(child, [...path, name]);
    order.push(name);
  };
  for (const { name } of kinds) place(unit(name), []);
  return order;
}
