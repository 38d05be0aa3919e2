/**
 * Who sends the bytes of an image. A row in short statements, so that hours of bytes hold no connection: it is claimed, renewed as long
 * as they come, and given back. The claim of a server that died runs out.
 */
import type { Database } from './database.ts';
import { from, inSeconds, now, statement, type Values } from './statement.ts';

/** Three renewals may fail before the claim is lost. */
export const claimSeconds = 20;
export const renewSeconds = 5;

export interface Upload {
  imageId: string;
  uploadId: string;
}

type Claim = Values<Upload & { claimSeconds: number }>;

const claim = statement((p: Claim) =>
  from
    .insertInto('upload')
    .values({ imageId: p.imageId, uploadId: p.uploadId, expiresAt: inSeconds(p.claimSeconds) })
    .onConflict((at) => at.column('imageId').doNothing())
    .returning('imageId'),
);

const renew = statement((p: Claim) =>
  from
    .updateTable('upload as u')
    .from('image as i')
    .set({ expiresAt: inSeconds(p.claimSeconds) })
    .where('u.imageId', '=', p.imageId)
    .where('u.uploadId', '=', p.uploadId)
    .where('u.expiresAt', '>', now)
    .whereRef('i.id', '=', 'u.imageId')
    .where('i.state', '=', 'awaitingUpload')
    .where('i.deletedAt', 'is', null)
    .returning('u.imageId'),
);

const giveBack = statement((p: Values<Upload>) =>
  from.deleteFrom('upload').where('imageId', '=', p.imageId).where('uploadId', '=', p.uploadId),
);

const abandoned = statement(() =>
  from
    .selectFrom('upload as u')
    .leftJoin('image as i', 'i.id', 'u.imageId')
    .select(['u.imageId', 'u.uploadId'])
    .where('u.expiresAt', '<', now)
    .where('i.state', 'is distinct from', 'importing')
    .orderBy('u.expiresAt')
    .limit(20),
);

const postpone = statement((p: Values<Upload>) =>
  from
    .updateTable('upload')
    .set({ expiresAt: now })
    .where('imageId', '=', p.imageId)
    .where('uploadId', '=', p.uploadId),
);

/** Claims an image's upload; false while another one has it. */
export async function claimUpload({ connections }: Database, { imageId, uploadId }: Upload): Promise<boolean> {
  const mine = await claim(connections, { imageId, uploadId, claimSeconds });
  return mine.length > 0;
}

/** Whether the bytes are still wanted: the claim is held, for longer now, and the image waits for them. */
export async function renewUpload({ connections }: Database, { imageId, uploadId }: Upload): Promise<boolean> {
  const mine = await renew(connections, { imageId, uploadId, claimSeconds });
  return mine.length > 0;
}

/** Gives a claim back; what it stood for is in the store's final place, or nowhere. */
export const endUpload = ({ connections }: Database, { imageId, uploadId }: Upload): Promise<unknown> =>
  giveBack(connections, { imageId, uploadId });

/** Claims that ran out. Bytes that an import is taking over are its own to throw away: they are told once it has ended. */
export const abandonedUploads = ({ connections }: Database): Promise<Upload[]> => abandoned(connections);

/** Puts one that could not be thrown away behind the others. */
export const postponeUpload = ({ connections }: Database, { imageId, uploadId }: Upload): Promise<unknown> =>
  postpone(connections, { imageId, uploadId });
