/** The one place where the name of a rule of the database becomes what the caller is told who broke it. */
import { allKinds } from '../model/kinds.ts';
import { uniquenesses } from '../model/uniqueness.ts';
import { Problem } from '../runtime/problem.ts';

/** SQLSTATEs of unique indexes and of exclusion constraints. */
const broken = new Set(['23505', '23P01']);

/** The rule that a storage pool promises no more than it may. */
const room = 'storagePool_room';

/** The rule that what is on the disks of one host is of use there alone. */
const home = 'volume_home';

/** The rule that no two hosts have one BMC. */
const bmc = 'host_bmc';

/** Whether a statement was refused because others have the room of the pool by now. */
export const isOutOfRoom = (error: unknown): boolean => (error as { constraint?: string }).constraint === room;

/** What a failed statement says about the caller's own values; null when it failed for anything else. */
export function problemOfRule(error: unknown): Problem | null {
  const { code, constraint, message } = error as { code?: string; constraint?: string; message?: string };
  if (isOutOfRoom(error)) return new Problem('NO_CAPACITY', String(message));
  if (constraint === bmc)
    return new Problem('ADDRESS_IN_USE', String(message), { violations: [{ field: 'bmc', message: 'is in use' }] });
  if (constraint === home) return new Problem('INVALID_STATE', String(message));
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
