/** The workflow of an action. What it is given and which steps it may take is what `model/` says of that action; the compiler compares. */
import type { ActionOf, OperationType, StepNameOf, WorkflowInput } from '../model/actions.ts';
import { type Step, saga } from './saga.ts';

/** An action's own: the steps that it declares, children if one of them is an operation, a point of no return if it has one. */
type StepsOf<T extends OperationType> = Step<
  StepNameOf<T>,
  Extract<NonNullable<ActionOf<T>['steps']>[number], { system: 'operation' }> extends never ? false : true,
  ActionOf<T> extends { pointOfNoReturn: string } ? true : false
>;

export interface Workflow<T extends OperationType, R = unknown> {
  (input: WorkflowInput<T>): Promise<R>;
  /** Only carries the type. */
  action?: T;
}

/** Runs `body` as an operation of this type; see `saga`. It is exported under the action's name, turned round: `resizeVolume`. */
export const workflow =
  <T extends OperationType, R>(
    _type: T,
    body: (step: StepsOf<T>, input: WorkflowInput<T>) => Promise<R>,
  ): Workflow<T, R> =>
  (input) =>
    saga((step) => body(step as StepsOf<T>, input));
