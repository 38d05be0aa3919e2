/** The bytes of an announced image, streamed to its backup store and checked on the way. */

import { randomUUID } from 'node:crypto';
import type Router from '@koa/router';
import { suspensionOf } from '../acceptance/authorize.ts';
import { type Caller, may, placeOf } from '../acceptance/caller.ts';
import { changeAs } from '../acceptance/own.ts';
import { discardUpload, receiveImage, type UploadedImage } from '../activities/storage/objects.ts';
import { from, now, statement, type Values } from '../database/statement.ts';
import { claimSeconds, claimUpload, endUpload, renewSeconds, renewUpload, type Upload } from '../database/uploads.ts';
import type { Kind } from '../model/kind.ts';
import { kinds } from '../model/kinds.ts';
import { config } from '../runtime/config.ts';
import { Problem } from '../runtime/problem.ts';
import { asks } from './refusals.ts';
import { type Api, applyChange, type Context, type State, uuidOf } from './request.ts';
import { type Standing, standingOf } from './standing.ts';

interface Announced {
  projectId: string;
  state: string;
  format: string | null;
  checksum: string | null;
  late: boolean;
}

const announced = statement((p: Values<{ id: string }>) =>
  from
    .selectFrom('image')
    .select((eb) => [
      'projectId',
      'state',
      'format',
      'checksum',
      eb.fn.coalesce(eb('uploadExpiresAt', '<', now), eb.lit(false)).as('late'),
    ])
    .$narrowType<{ late: boolean }>()
    .where('id', '=', p.id)
    .where('deletedAt', 'is', null),
);

const importing = statement((p: Values<{ id: string }>) =>
  from.selectFrom('image').select('id').where('id', '=', p.id).where('state', '=', 'importing'),
);

async function answerUpload(api: Api, ctx: Context): Promise<void> {
  const kind = kinds.image as unknown as Kind;
  const id = uuidOf(ctx, kind);
  const { caller } = ctx.state;
  const [image] = await announced(api.database.connections, { id });
  const place = placeOf(kind, { ...image, id });
  if (!image || !may(caller, 'image.get', place)) throw new Problem('NOT_FOUND', `there is no image ${id}`);
  if (!may(caller, 'image.import', place)) throw new Problem('FORBIDDEN', 'you need the permission image.import here');
  if (image.state !== 'awaitingUpload')
    throw new Problem('INVALID_STATE', `image ${id} is ${image.state}; its bytes were uploaded already`, {
      fits: ['awaitingUpload'],
    });
  if (image.late)
    throw new Problem(
      'INVALID_STATE',
      `the time in which the bytes of image ${id} could be sent is over; announce it anew`,
    );
  await take(api, ctx, id, image);
}

/** Whether the bytes would still be taken, so that nobody goes on sending in vain. */
async function mayGoOn(api: Api, caller: Caller, id: string): Promise<boolean> {
  const [image] = await announced(api.open.connections, { id });
  const suspension = image ? await suspensionOf(api.open.connections, image) : null;
  if (suspension) throw new Problem('ACCOUNT_SUSPENDED', `${suspension}: nothing new is made`);
  return image !== undefined && may(caller, 'image.import', placeOf(kinds.image as unknown as Kind, { ...image, id }));
}

/**
 * Keeps a claim as long as the bytes come. It is lost where the image was deleted, or where the database could not be asked for so
 * long that others take this server for dead.
 */
function keepClaim(api: Api, upload: Upload, standing: Standing): { end(): Promise<void> } {
  let until = Date.now() + claimSeconds * 1_000;
  const renew = async (): Promise<void> => {
    const asked = Date.now();
    const held = await renewUpload(api.open, upload).catch(() => null);
    if (held) until = asked + claimSeconds * 1_000;
    if (held === false || Date.now() > until) standing.end(notWanted(upload));
  };
  const timer = setInterval(() => void renew(), renewSeconds * 1_000);
  return {
    async end() {
      clearInterval(timer);
      // One that is not given back runs out.
      await endUpload(api.open, upload).catch(() => {});
    },
  };
}

const notWanted = ({ imageId }: Upload): Problem =>
  new Problem('CANCELLED', `image ${imageId} does not wait for these bytes any more`);

async function take(api: Api, ctx: Context, id: string, image: Announced): Promise<void> {
  const standing = standingOf(api, ctx, 'upload', (caller) => mayGoOn(api, caller, id));
  const upload: Upload = { imageId: id, uploadId: randomUUID() };
  if (!(await claimUpload(api.open, upload)))
    throw new Problem('RESOURCE_BUSY', `the bytes of image ${id} are being uploaded already`, {
      resource: { kind: 'image', id },
      retryAfterSeconds: 5,
    });
  const claim = keepClaim(api, upload, standing);
  try {
    const facts = await receive(api, ctx, upload, image, standing);
    await importImage(api, ctx, upload, standing.caller, facts);
  } finally {
    await claim.end();
  }
}

/** What came, checked, and still wanted. */
async function receive(
  api: Api,
  ctx: Context,
  upload: Upload,
  image: Announced,
  standing: Standing,
): Promise<UploadedImage> {
  const facts = await receiveImage(api.open, upload, ctx.req, {
    limitBytes: config.uploadLimitBytes,
    leastRate: { bytes: config.uploadLeastBytes, seconds: config.uploadWindowSeconds },
    signal: standing.signal,
  }).catch((error: unknown) => {
    standing.refuse();
    throw error;
  });
  const wrong =
    image.format && image.format !== facts.format
      ? `the bytes are ${facts.format}, not ${image.format}`
      : image.checksum && image.checksum !== facts.sha256
        ? `the bytes have the sha256 ${facts.sha256}, not ${image.checksum}`
        : null;
  if (wrong) {
    await discardUpload(api.open, upload);
    throw new Problem('PRECONDITION_FAILED', wrong);
  }
  return facts;
}

async function importImage(
  api: Api,
  ctx: Context,
  upload: Upload,
  caller: Caller,
  facts: UploadedImage,
): Promise<void> {
  try {
    if (!(await renewUpload(api.open, upload))) throw notWanted(upload);
    await applyChange(
      api,
      ctx,
      changeAs(
        caller,
        { kind: kinds.image as unknown as Kind, verb: 'import', targetId: upload.imageId, body: {} },
        { requestId: ctx.state.requestId, sourceAddress: ctx.ip, onBusy: 'fail', found: { ...facts } },
      ),
    );
  } catch (error) {
    // Deleted, say, while its bytes came: nobody else will look for them.
    await discardUnwanted(api, upload);
    throw error;
  }
}

/** Throws the upload away, unless the import that takes it over is under way. */
async function discardUnwanted(api: Api, upload: Upload): Promise<void> {
  const [taken] = await importing(api.open.connections, { id: upload.imageId });
  if (!taken) await discardUpload(api.open, upload);
}

export function uploadRoutes(router: Router<State>, api: Api): void {
  router.put('/v1/images/:id/content', asks(kinds.image as unknown as Kind, 'import'), async (ctx) => {
    try {
      await answerUpload(api, ctx);
    } catch (error) {
      // What is still on its way would be taken for the next request.
      ctx.set('Connection', 'close');
      throw error;
    }
  });
}
