/** What an action's steps are, as `operation-types` and dry runs answer it: which ones says the model, where they work and what undoes them the steps themselves. */
import type { OperationType, StepNameOf } from '../model/actions.ts';
import { type Action, nameOf, type StepDeclaration, type StepDescription, type System } from '../model/kind.ts';
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

const described = new Map<string, { system: System; undoText?: string }>(
  Object.entries(areas).flatMap(([area, steps]) =>
    Object.entries(steps(nowhere) as Record<string, DescribedStep<unknown, unknown>>).map(
      ([name, one]) => [`${area}.${name}`, one] as const,
    ),
  ),
);

function describe(declared: StepDeclaration): { system: System; undoText?: string | null; when?: string } {
  if (typeof declared !== 'string' && 'system' in declared) return { ...declared, undoText: declared.undo };
  const known = described.get(nameOf(declared));
  if (!known) throw new Error(`there is no step ${nameOf(declared)}`);
  return { ...known, ...(typeof declared === 'string' ? {} : { when: declared.when }) };
}

export function stepsOf({ steps = [], pointOfNoReturn }: Action): StepDescription[] {
  let onlyForward = false;
  return steps.map((declared) => {
    const name = nameOf(declared);
    onlyForward ||= name === pointOfNoReturn;
    const { system, undoText, when } = describe(declared);
    return { name, system, undo: onlyForward ? null : (undoText ?? null), ...(when ? { when } : {}) };
  });
}
