/** Ids that callers choose. */
import { type Client, run } from '../database/database.ts';
import { columnsOf } from '../model/columns.ts';
import { allKinds } from '../model/kinds.ts';
import { Problem } from '../runtime/problem.ts';

/** What every installation has from its first start has ids of this form, and later versions may bring more of it. */
const reserved = /^00000000-0000-4000-8000-/i;

/**
 * Where else an id may stand than in `identity`, which has those of all resources there ever were: ids of what only the platform
 * writes, and the far ends of grants and limits, which are no foreign keys.
 */
const places = [
  { table: 'identity', column: 'id' },
  ...allKinds.flatMap((kind) =>
    kind.readOnly
      ? [{ table: kind.name, column: 'id' }]
      : columnsOf(kind)
          .filter(({ name, type, ref }) => type === 'uuid' && name !== 'id' && ref === undefined)
          .map(({ name }) => ({ table: kind.name, column: name })),
  ),
];

const statement = `SELECT ${places
  .map(({ table, column }) => `EXISTS (SELECT 1 FROM "${table}" WHERE "${column}" = $1::uuid)`)
  .join(' OR ')} AS taken`;

/**
 * Refuses an id that anything has or had, or that something leads to already: it would take over what was meant for that. Two who ask for
 * the same id at the same moment are told apart by the primary key of `identity`.
 */
export async function refuseTakenId(tx: Client, id: string): Promise<void> {
  const [answer] = await run<{ taken: boolean }>(tx, statement, [id]);
  if (answer?.taken || reserved.test(id))
    throw new Problem('NAME_IN_USE', `the id ${id} is in use already; choose another, or none`, {
      violations: [{ field: 'requestedId', message: 'is in use' }],
    });
}
