/** The operations above one that another has begun. */
import type { Transaction } from '../database/database.ts';
import { from, statement, type Values } from '../database/statement.ts';
import { Problem } from '../runtime/problem.ts';

const stillOpen = statement((p: Values<{ id: string }>) =>
  from.selectFrom('operation').select('endedAt').where('id', '=', p.id).forShare(),
);

const above = statement((p: Values<{ id: string }>) =>
  from
    .withRecursive('above(id, parentOperationId, level)', (db) =>
      db
        .selectFrom('operation')
        .select((eb) => ['id', 'parentOperationId', eb.lit<number>(0).as('level')])
        .where('id', '=', p.id)
        .unionAll(
          db
            .selectFrom('above as a')
            .innerJoin('operation as o', 'o.id', 'a.parentOperationId')
            .select((eb) => ['o.id', 'o.parentOperationId', eb('a.level', '+', 1).as('level')]),
        ),
    )
    .selectFrom('above')
    .select('id')
    .orderBy('level'),
);

/**
 * The operation that begins a child, and those above it, the nearest first. It can not end before the transaction does.
 *
 * @throws Problem INVALID_STATE when it has ended: what it begins now, nobody would wait for
 */
export async function ancestorsOf(tx: Transaction, operationId: string): Promise<string[]> {
  const [parent] = await stillOpen(tx, { id: operationId });
  if (!parent || parent.endedAt)
    throw new Problem('INVALID_STATE', `operation ${operationId} has ended: it begins nothing any more`);
  const rows = await above(tx, { id: operationId });
  return rows.map(({ id }) => id);
}
