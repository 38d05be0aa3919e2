/** What has an end of its own is deleted by the same operation that anybody else would begin, with all that stands in its way. */
import { acceptOwn } from '../acceptance/own.ts';
import { type Database, run } from '../database/database.ts';

const atOnce = 50;
const firstId = '00000000-0000-0000-0000-000000000000';
/** Where the last look ended: what can not go now, such as what another operation holds, must not keep others from their turn. */
const lookedUpTo = new Map<string, string>();

async function expired(database: Database, name: string, condition: string): Promise<string[]> {
  const rows = await run<{ id: string }>(
    database.pool,
    `SELECT t.id FROM "${name}" t WHERE ${condition} AND t."deletedAt" IS NULL AND t."currentOperationId" IS NULL AND t.id > $1 ORDER BY t.id LIMIT ${atOnce}`,
    [lookedUpTo.get(name) ?? firstId],
  );
  lookedUpTo.set(name, (rows.length === atOnce ? rows.at(-1)?.id : undefined) ?? firstId);
  return rows.map(({ id }) => id);
}

/** An upload that has begun in time may come to its end. */
const nobodySends = `NOT EXISTS (SELECT 1 FROM "upload" u WHERE u."imageId" = t.id)`;

/** Snapshots past their `expiresAt`, and announced images whose bytes did not come in time. */
export async function deleteExpired(database: Database): Promise<void> {
  for (const id of await expired(database, 'snapshot', `t."expiresAt" < now() AND t.state = 'ready'`))
    await acceptOwn(database, 'snapshot', 'delete', id, 'expired');
  const late = `t."uploadExpiresAt" < now() AND t.state = 'awaitingUpload' AND ${nobodySends}`;
  for (const id of await expired(database, 'image', late)) await acceptOwn(database, 'image', 'delete', id, 'expired');
}
