/** The one place where the name of a rule of the database becomes what the caller is told who broke it. */
import { allKinds } from '../model/kinds.ts';
import { uniquenesses } from '../model/uniqueness.ts';
import { Problem } from '../runtime/problem.ts';

/** SQLSTATEs of unique indexes and of exclusion constraints. */
const broken = new Set(['23505', '23P01']);

/** What a failed statement says about the caller's own values; null when it failed for anything else. */
export function problemOfRule(error: unknown): Problem | null {
  const { code, constraint } = error as { code?: string; constraint?: string };
  if (!code || !constraint || !broken.has(code)) return null;
  const uniqueness = uniquenesses.get(constraint);
  if (uniqueness) {
    const { kind, unique } = uniqueness;
    const field = unique.blame ?? unique.fields.at(-1) ?? '';
    return new Problem(unique.code, `there is a ${kind.name} with this ${field} already`, {
      violations: [{ field, message: unique.ranges ? 'overlaps another' : 'is in use' }],
    });
  }
  if (constraint === 'identity_pkey' || allKinds.some(({ name }) => constraint === `${name}_pkey`))
    return new Problem('NAME_IN_USE', 'a resource with this id exists already', {
      violations: [{ field: 'requestedId', message: 'is in use' }],
    });
  return null;
}
