/** Ids that callers choose. */
import type { Transaction } from '../database/database.ts';
import { idIsTaken } from '../database/identity.ts';
import { Problem } from '../runtime/problem.ts';

/** What every installation has from its first start has ids of this form, and later versions may bring more of it. */
const reserved = /^00000000-0000-4000-8000-/i;

/**
 * Refuses an id that anything has or had, or that something leads to already: it would take over what was meant for that. Two who ask for
 * the same id at the same moment are told apart by the primary key of `identity`.
 */
export async function refuseTakenId(tx: Transaction, id: string): Promise<void> {
  const [answer] = await idIsTaken(tx, { id });
  if (answer?.taken || reserved.test(id))
    throw new Problem('NAME_IN_USE', `the id ${id} is in use already; choose another, or none`, {
      violations: [{ field: 'requestedId', message: 'is in use' }],
    });
}
