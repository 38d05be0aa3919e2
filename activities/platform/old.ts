/** Records that nobody needs any more after a while. */
import type { Database } from '../../database/database.ts';
import { deleteOldAnswers, deleteOldFindings, deleteTombstones, forgottenAtOnce } from '../../database/old.ts';
import { allKinds } from '../../model/kinds.ts';

/** Answers to Idempotency-Keys are kept for a while. Answers whether there may be more of them. */
export async function forgetOldAnswers(database: Database): Promise<boolean> {
  const gone = await deleteOldAnswers(database.connections);
  return gone.length === forgottenAtOnce;
}

/** Deleted resources and findings that are over can be read for a while, and then not any more. Answers whether there may be more of them. */
export async function forgetTombstones(database: Database): Promise<boolean> {
  let more = (await deleteOldFindings(database.connections)).length === forgottenAtOnce;
  for (const kind of allKinds) {
    const gone = await deleteTombstones(kind)(database.connections);
    more ||= gone.length === forgottenAtOnce;
  }
  return more;
}
