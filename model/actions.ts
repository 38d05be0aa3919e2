/** What follows from an action's own words: how it is called, what its workflow is told, and which steps that may take. */
import type { Static, TObject, TSchema } from 'typebox';
import type { cascade } from './cascade.ts';
import type { Action, StepOf } from './kind.ts';
import type { kinds } from './kinds.ts';

type Kinds = typeof kinds;

/** Every action that is an operation, such as `instance.stop`; a cascade is the same for all kinds. */
export type OperationType = { [K in keyof Kinds]: OperationTypeOf<K, Kinds[K]['actions']> }[keyof Kinds] | 'cascade';

type OperationTypeOf<K extends string, A> = {
  [V in keyof A & string]: A[V] extends { mode: 'operation' } ? `${K}.${V}` : never;
}[keyof A & string];

/** Every verb whose action does not say by itself what it is called once it has happened. */
export type SharedVerb = { [K in keyof Kinds]: WordlessOf<Kinds[K]['actions']> }[keyof Kinds];

type WordlessOf<A> = { [V in keyof A & string]: A[V] extends { happened: string } ? never : V }[keyof A & string];

export type ActionOf<T extends OperationType> = T extends 'cascade'
  ? typeof cascade
  : T extends `${infer K extends keyof Kinds}.${infer V}`
    ? V extends keyof Kinds[K]['actions']
      ? Kinds[K]['actions'][V] extends infer A extends Action
        ? A
        : never
      : never
    : never;

/** Names of the steps that its workflow may take. */
export type StepNameOf<T extends OperationType> = StepOf<ActionOf<T>>;

type Filled<P> = {
  [N in keyof P]: P[N] extends infer S extends TSchema
    ? S extends { default: unknown }
      ? Static<S>
      : S extends { '~optional': true; type: 'boolean' }
        ? boolean
        : S extends { '~optional': true }
          ? Static<S> | null
          : Static<S>
    : never;
};

/** What a workflow is given: the id of its target, the input with nothing left out, and what acceptance tells. */
export type WorkflowInput<T extends OperationType> = (T extends `${infer K}.${string}`
  ? Record<`${K}Id`, string>
  : unknown) &
  (ActionOf<T> extends { input: TObject<infer P> } ? Filled<P> : unknown) &
  Told<T>;

export type Told<T extends OperationType> =
  ActionOf<T> extends { tells: infer S extends TObject } ? Static<S> : unknown;

/** The one place where what was left out of an action's input gets its value. */
export function filled(action: Action, input: Record<string, unknown>): Record<string, unknown> {
  const properties = (action.input?.properties ?? {}) as Record<string, { type?: string; default?: unknown }>;
  return Object.fromEntries(
    Object.entries(properties).map(([name, { type, default: value = type === 'boolean' ? false : null }]) => [
      name,
      input[name] ?? value,
    ]),
  );
}
