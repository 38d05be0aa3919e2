import { Problem, type Violation } from '../runtime/problem.ts';

/** A value that the schema allows and the action does not. */
export const invalid = (field: string, message: string): Problem =>
  new Problem('INVALID_ARGUMENT', `${field} ${message}`, { violations: [{ field, message }] });

/** Refuses with all of them, where there are any, and says the first. */
export function refuseAll(violations: Violation[]): void {
  const [first] = violations;
  if (first) throw new Problem('INVALID_ARGUMENT', `${first.field} ${first.message}`, { violations });
}
