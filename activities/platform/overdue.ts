/** What has an end of its own goes by the same operation that anybody else would begin, with all that stands in its way. */
import { acceptOwn } from '../../acceptance/own.ts';
import type { Database } from '../../database/database.ts';
import { overdue } from '../../database/old.ts';
import { firstId } from '../../database/wellKnown.ts';
import type { StartOperation } from '../../model/platform/operation.ts';

/** By which verb each goes, and how the trail names the reason. */
const ends = {
  instance: { verb: 'expunge', requestId: 'recovery-window' },
  volume: { verb: 'expunge', requestId: 'recovery-window' },
  snapshot: { verb: 'delete', requestId: 'expired' },
  image: { verb: 'delete', requestId: 'expired' },
} as const;

export type OverdueKind = keyof typeof ends;

/** A page of what was found: operations to run, and where the next page begins; null when this was the last. */
export interface Page {
  begun: StartOperation[];
  after: string | null;
}

/** Begins the end of what is overdue, in the order of ids. What is refused, such as what another operation holds, has its turn another time. */
export async function endOverdue(database: Database, kind: OverdueKind, after: string | null): Promise<Page> {
  const { verb, requestId } = ends[kind];
  const rows = await overdue[kind](database.connections, { after: after ?? firstId });
  const begun: StartOperation[] = [];
  for (const { id } of rows) {
    const outcome = await acceptOwn(database, kind, verb, id, requestId, { leftToDispatcher: false });
    if (outcome?.start) begun.push(outcome.start);
  }
  return { begun, after: (rows.length === overdue.atOnce ? rows.at(-1)?.id : undefined) ?? null };
}
