/** The operations above one that another has begun. */
import { type Client, run } from '../database/database.ts';
import { Problem } from '../runtime/problem.ts';

/**
 * The operation that begins a child, and those above it, the nearest first. It can not end before the transaction does.
 *
 * @throws Problem INVALID_STATE when it has ended: what it begins now, nobody would wait for
 */
export async function ancestorsOf(tx: Client, operationId: string): Promise<string[]> {
  const [parent] = await run<{ endedAt: Date | null }>(
    tx,
    `SELECT "endedAt" FROM "operation" WHERE id = $1 FOR SHARE`,
    [operationId],
  );
  if (!parent || parent.endedAt)
    throw new Problem('INVALID_STATE', `operation ${operationId} has ended: it begins nothing any more`);
  const rows = await run<{ id: string }>(
    tx,
    `WITH RECURSIVE above AS (
       SELECT id, "parentOperationId", 0 AS level FROM "operation" WHERE id = $1
       UNION ALL SELECT o.id, o."parentOperationId", a.level + 1 FROM above a JOIN "operation" o ON o.id = a."parentOperationId")
     SELECT id FROM above ORDER BY level`,
    [operationId],
  );
  return rows.map(({ id }) => id);
}
