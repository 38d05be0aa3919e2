import { Problem } from '../runtime/problem.ts';

/** A value that the schema allows and the action does not. */
export const invalid = (field: string, message: string): Problem =>
  new Problem('INVALID_ARGUMENT', `${field} ${message}`, { violations: [{ field, message }] });
