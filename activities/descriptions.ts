/** Where each step works and what its undo does, as the steps themselves say it. `scripts/generate-steps.ts` writes it down for those who tell it. */
import type { OperationType, StepNameOf } from '../model/actions.ts';
import type { System } from '../model/kind.ts';
import { areas } from './index.ts';
import type { DescribedStep } from './step.ts';
import type { World } from './world.ts';

type Areas = typeof areas;
type Registered = { [A in keyof Areas]: `${A}.${keyof ReturnType<Areas[A]> & string}` }[keyof Areas];
/** A step that is declared and that no activity does is an error here; the words without a dot are operations. */
type Done<_Declared extends Registered> = true;
export type EveryStepIsDone = Done<Extract<StepNameOf<OperationType>, `${string}.${string}`>>;

/** Steps are described without being run, so there is nothing in it. */
const nowhere: World = new Proxy({} as World, { get: (): World => nowhere });

export const descriptions: Record<string, { system: System; undoText?: string }> = Object.fromEntries(
  Object.entries(areas).flatMap(([area, steps]) =>
    Object.entries(steps(nowhere) as Record<string, DescribedStep<unknown, unknown>>).map(
      ([name, { system, undoText }]) => [`${area}.${name}`, { system, ...(undoText ? { undoText } : {}) }] as const,
    ),
  ),
);
