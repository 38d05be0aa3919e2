/** Whose turn it is. */
import { kindOf } from '../model/kinds.ts';
import { type Database, run } from './database.ts';

/** An operation whose workflow has not begun is asked for again after so long: who was about to ask may have died. */
export const askAgainSeconds = 10;

/** Taken at a time. */
export const readyAtOnce = 200;

export interface ReadyOperation {
  id: string;
  type: string;
  targetKind: string;
  targetId: string;
  projectId: string | null;
  input: Record<string, unknown>;
}

/**
 * First in line on everything they touch, and not asked for lately. Only a deletion waits for pins, so that no other operation looks at
 * the pins of a resource: there may be thousands. Each operation looks for its locks by itself, each lock for those before it (OFFSET 0), and
 * the list is made once: joined as the planner likes, by what the tables held before a burst, this ran for minutes.
 */
export const readyStatement = `WITH ready AS MATERIALIZED (
       SELECT o.id FROM "operation" o
       WHERE o.state = 'queued' AND (o."dispatchAt" IS NULL OR o."dispatchAt" < now())
         AND NOT EXISTS (
           SELECT 1 FROM "operationLock" mine WHERE mine."operationId" = o.id AND (
             EXISTS (SELECT 1 FROM "operationLock" earlier WHERE earlier."resourceId" = mine."resourceId" AND earlier."resourceKind" = mine."resourceKind"
               AND earlier.ticket < mine.ticket AND earlier."operationId" <> mine."operationId" AND earlier.mode <> 'S' AND (mine.mode <> 'S' OR earlier.mode = 'D') OFFSET 0)
             OR (mine.mode = 'D' AND EXISTS (SELECT 1 FROM "operationLock" earlier WHERE earlier."resourceId" = mine."resourceId"
               AND earlier."resourceKind" = mine."resourceKind" AND earlier.ticket < mine.ticket AND earlier."operationId" <> mine."operationId" OFFSET 0))) OFFSET 0)
       ORDER BY o."createdAt" LIMIT ${readyAtOnce} FOR UPDATE SKIP LOCKED)
     UPDATE "operation" o SET "dispatchAt" = now() + make_interval(secs => $1) FROM ready WHERE o.id = ready.id
     RETURNING o.id, o.type, o."targetKind", o."targetId", o."projectId", o.input`;

/** Takes the operations whose turn it is, at most `readyAtOnce`; nobody else gets them for the next ten seconds. */
export const readyOperations = ({ pool }: Database): Promise<ReadyOperation[]> =>
  run<ReadyOperation>(pool, readyStatement, [askAgainSeconds]);

/** What the targets of these operations are called, by id. */
export async function targetNames(
  { pool }: Database,
  operations: readonly ReadyOperation[],
): Promise<Map<string, string>> {
  const names = new Map<string, string>();
  for (const kind of new Set(operations.map(({ targetKind }) => targetKind))) {
    const ids = operations.flatMap(({ targetKind, targetId }) => (targetKind === kind ? [targetId] : []));
    const rows = await run<{ id: string; name: string | null }>(
      pool,
      `SELECT id, to_jsonb(t) ->> 'name' AS name FROM "${kindOf(kind).name}" t WHERE id = ANY($1::uuid[])`,
      [ids],
    );
    for (const { id, name } of rows) if (name !== null) names.set(id, name);
  }
  return names;
}
