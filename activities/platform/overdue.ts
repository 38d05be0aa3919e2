/** What has an end of its own goes by the same operation that anybody else would begin, with all that stands in its way. */
import { acceptOwn } from '../../acceptance/own.ts';
import { type Database, run } from '../../database/database.ts';
import type { StartOperation } from '../../model/platform/operation.ts';

const atOnce = 50;
const firstId = '00000000-0000-0000-0000-000000000000';

interface Overdue {
  verb: 'delete' | 'expunge';
  /** Which of them are, as a condition on `t`. */
  where: string;
  /** How the trail names the reason. */
  requestId: string;
}

/** The window began when it was destroyed. */
const windowIsOver = `t.state = 'destroyed' AND t."destroyedAt" < now() - make_interval(secs => (
  SELECT (s.value #>> '{}')::int FROM "setting" s WHERE s.name = 'instance.recoveryWindowSeconds'))`;
/** An upload that has begun in time may come to its end. */
const nobodySends = `NOT EXISTS (SELECT 1 FROM "upload" u WHERE u."imageId" = t.id)`;

const overdue = {
  instance: { verb: 'expunge', where: windowIsOver, requestId: 'recovery-window' },
  // A root volume goes with its instance.
  volume: {
    verb: 'expunge',
    where: `${windowIsOver} AND (t.role = 'data' OR t."instanceId" IS NULL)`,
    requestId: 'recovery-window',
  },
  snapshot: { verb: 'delete', where: `t."expiresAt" < now() AND t.state = 'ready'`, requestId: 'expired' },
  image: {
    verb: 'delete',
    where: `t."uploadExpiresAt" < now() AND t.state = 'awaitingUpload' AND ${nobodySends}`,
    requestId: 'expired',
  },
} satisfies Record<string, Overdue>;

export type OverdueKind = keyof typeof overdue;

/** A page of what was found: operations to run, and where the next page begins; null when this was the last. */
export interface Page {
  begun: StartOperation[];
  after: string | null;
}

/** Begins the end of what is overdue, in the order of ids. What is refused, such as what another operation holds, has its turn another time. */
export async function endOverdue(database: Database, kind: OverdueKind, after: string | null): Promise<Page> {
  const { verb, where, requestId }: Overdue = overdue[kind];
  const rows = await run<{ id: string }>(
    database.pool,
    `SELECT t.id FROM "${kind}" t WHERE ${where} AND t."deletedAt" IS NULL AND t."currentOperationId" IS NULL AND t.id > $1 ORDER BY t.id LIMIT ${atOnce}`,
    [after ?? firstId],
  );
  const begun: StartOperation[] = [];
  for (const { id } of rows) {
    const outcome = await acceptOwn(database, kind, verb, id, requestId, { undispatched: false });
    if (outcome?.start) begun.push(outcome.start);
  }
  return { begun, after: (rows.length === atOnce ? rows.at(-1)?.id : undefined) ?? null };
}
