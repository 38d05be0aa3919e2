import type { System } from '../model/kind.ts';

/**
 * A step: what it does and how that is undone, side by side, with the same input.
 *
 * Both may run twice. `undo` must bear that `do` never ran, ran half, or ran twice. So both are written as *ensure it is so* and
 * *ensure it is not*. Where nothing has to be undone, `undo` is left out.
 */
export interface StepPair<I, O> {
  do(input: I, context: StepContext): Promise<O>;
  undo?(input: I, context: StepContext): Promise<void>;
}

/** A step as workers register it, and as `operation-types` and dry runs tell of it. */
export interface DescribedStep<I, O> extends StepPair<I, O> {
  system: System;
  /** What the undo does, in two or three words. */
  undoText?: string;
}

type Undone<I> =
  | { undo(input: I, context: StepContext): Promise<void>; undoText: string }
  | { undo?: never; undoText?: never };

/** Where it works stands here, and what its undo does stands beside its undo; nothing else says them again. */
export const step = <I, O = void>(
  pair: { system: System; do(input: I, context: StepContext): Promise<O> } & Undone<I>,
): DescribedStep<I, O> => pair;

/**
 * Several changes at one place as one step: most of what a short step costs is its way there and back. Done in this order, undone in reverse;
 * an attempt begins with the first again, since each can be done twice.
 */
export const joined = <I>(...pairs: StepPair<I, void>[]): Required<StepPair<I, void>> => ({
  async do(input, context) {
    for (const pair of pairs) await pair.do(input, context);
  },
  async undo(input, context) {
    for (const pair of pairs.toReversed()) await pair.undo?.(input, context);
  },
});

/** What a workflow tells of a step beside its input. The rest Temporal knows, and it would stand in every line of a history. */
export interface StepPlace {
  /** Place of the step in its run; -1 for the saga's own bookkeeping. */
  index: number;
  /** The point of no return is behind. */
  committed: boolean;
  /** How often the workflow has asked for it, do and undo together; not said of the first time. */
  round?: number;
  /** The workflow numbers what it asks for, in its order. Runs that began before it did say nothing of turns. */
  turn?: number;
  /** All turns below have ended, and the workflow's history says so. */
  since?: number;
}

/** Which run of which operation a step belongs to; tags on real systems are made from it. */
export interface StepContext extends StepPlace {
  operationId: string;
  /** Name of the workflow, such as `createInstance`. */
  type: string;
  step: string;
  undo: boolean;
  /** Where Temporal counts them; beside the workflow a worker counts by itself, and its successor anew. */
  attempt?: number;
}

export interface OperationProblem {
  code: string;
  message: string;
  step: string | null;
  hostId?: string;
  [detail: string]: unknown;
}

export interface StepReport {
  index: number;
  name: string;
  state: 'pending' | 'running' | 'done' | 'undoing' | 'undone' | 'failed' | 'skipped';
  attempts: number;
  startedAt: string;
  endedAt: string | null;
  error: OperationProblem | null;
  /** The operation that the step is, where it is one. */
  operationId?: string;
}
