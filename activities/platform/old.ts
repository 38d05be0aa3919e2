/** Records that nobody needs any more after a while. */
import { type Database, run } from '../../database/database.ts';
import { allKinds } from '../../model/kinds.ts';

/** A deletion of more would hold up those who write there. */
const atOnce = 1000;

const olderThan = (moment: string, setting: string): string =>
  `${moment} < now() - make_interval(secs => (SELECT (s.value #>> '{}')::int FROM "setting" s WHERE s.name = '${setting}'))`;

/** Answers to Idempotency-Keys are kept for a while. Answers whether there may be more of them. */
export async function forgetOldAnswers(database: Database): Promise<boolean> {
  const gone = await run(
    database.pool,
    `DELETE FROM "idempotencyKey" k WHERE (k."callerId", k.key) IN (
       SELECT o."callerId", o.key FROM "idempotencyKey" o WHERE ${olderThan('o."createdAt"', 'idempotency.keepSeconds')} LIMIT ${atOnce}) RETURNING 1`,
  );
  return gone.length === atOnce;
}

/** Deleted resources can be read for a while, and then not any more. Answers whether there may be more of them. */
export async function forgetTombstones(database: Database): Promise<boolean> {
  let more = false;
  for (const { name } of allKinds) {
    const gone = await run(
      database.pool,
      `DELETE FROM "${name}" WHERE id IN (
         SELECT t.id FROM "${name}" t WHERE ${olderThan('t."deletedAt"', 'record.tombstoneSeconds')} LIMIT ${atOnce}) RETURNING 1`,
    );
    more ||= gone.length === atOnce;
  }
  return more;
}
