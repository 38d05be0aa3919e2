/**
 * Who sends the bytes of an image. A row in short statements, so that hours of bytes hold no connection: it is claimed, renewed as long
 * as they come, and given back. The claim of a server that died runs out.
 */
import { type Database, run } from './database.ts';

/** Three renewals may fail before the claim is lost. */
export const claimSeconds = 20;
export const renewSeconds = 5;

export interface Upload {
  imageId: string;
  uploadId: string;
}

/** Claims an image's upload; false while another one has it. */
export async function claimUpload({ pool }: Database, { imageId, uploadId }: Upload): Promise<boolean> {
  const mine = await run(
    pool,
    `INSERT INTO "upload" ("imageId", "uploadId", "expiresAt") VALUES ($1, $2, now() + make_interval(secs => $3))
     ON CONFLICT ("imageId") DO NOTHING RETURNING 1`,
    [imageId, uploadId, claimSeconds],
  );
  return mine.length > 0;
}

/** Whether the bytes are still wanted: the claim is held, for longer now, and the image waits for them. */
export async function renewUpload({ pool }: Database, { imageId, uploadId }: Upload): Promise<boolean> {
  const mine = await run(
    pool,
    `UPDATE "upload" u SET "expiresAt" = now() + make_interval(secs => $3) FROM "image" i
     WHERE u."imageId" = $1 AND u."uploadId" = $2 AND u."expiresAt" > now()
       AND i.id = u."imageId" AND i.state = 'awaitingUpload' AND i."deletedAt" IS NULL RETURNING 1`,
    [imageId, uploadId, claimSeconds],
  );
  return mine.length > 0;
}

/** Gives a claim back; what it stood for is in the store's final place, or nowhere. */
export const endUpload = ({ pool }: Database, { imageId, uploadId }: Upload): Promise<unknown> =>
  run(pool, `DELETE FROM "upload" WHERE "imageId" = $1 AND "uploadId" = $2`, [imageId, uploadId]);

/** Claims that ran out. Bytes that an import is taking over are its own to throw away: they are told once it has ended. */
export const abandonedUploads = ({ pool }: Database): Promise<Upload[]> =>
  run<Upload>(
    pool,
    `SELECT u."imageId", u."uploadId" FROM "upload" u LEFT JOIN "image" i ON i.id = u."imageId"
     WHERE u."expiresAt" < now() AND i.state IS DISTINCT FROM 'importing' ORDER BY u."expiresAt" LIMIT 20`,
  );

/** Puts one that could not be thrown away behind the others. */
export const postponeUpload = ({ pool }: Database, { imageId, uploadId }: Upload): Promise<unknown> =>
  run(pool, `UPDATE "upload" SET "expiresAt" = now() WHERE "imageId" = $1 AND "uploadId" = $2`, [imageId, uploadId]);
