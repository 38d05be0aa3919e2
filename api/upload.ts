/** The bytes of an announced image, streamed to its backup store and checked on the way. */
import type Router from '@koa/router';
import { suspensionOf } from '../acceptance/authorize.ts';
import { type Caller, may, placeOf } from '../acceptance/caller.ts';
import { discardUpload, receiveImage } from '../activities/storage/objects.ts';
import { run } from '../database/database.ts';
import type { Kind } from '../model/kind.ts';
import { kinds } from '../model/kinds.ts';
import { config } from '../runtime/config.ts';
import { Problem } from '../runtime/problem.ts';
import { asks } from './refusals.ts';
import { type Api, applyChange, type Context, type State, uuidOf } from './request.ts';
import { standingOf } from './standing.ts';

/**
 * Keeps an image to one upload at a time, across all API servers: the lock ends with its own connection, whatever becomes of this
 * process. A connection of the pool would be missing there as long as the bytes take.
 */
async function alone<T>({ database }: Api, imageId: string, work: () => Promise<T>): Promise<T> {
  const client = database.connection();
  client.on('error', () => {});
  await client.connect();
  try {
    const { rows } = await client.query<{ mine: boolean }>(
      'SELECT pg_try_advisory_lock(hashtextextended($1, 3)) AS mine',
      [imageId],
    );
    if (!rows[0]?.mine)
      throw new Problem('RESOURCE_BUSY', `the bytes of image ${imageId} are being uploaded already`, {
        resource: { kind: 'image', id: imageId },
        retryAfterSeconds: 5,
      });
    return await work();
  } finally {
    await client.end().catch(() => {});
  }
}

interface Announced {
  projectId: string;
  state: string;
  format: string | null;
  checksum: string | null;
  late: boolean;
}

async function receive(api: Api, ctx: Context): Promise<void> {
  const kind = kinds.image as unknown as Kind;
  const id = uuidOf(ctx, kind);
  const { caller } = ctx.state;
  const [image] = await run<Announced>(
    api.database.pool,
    `SELECT "projectId", state, format, checksum, coalesce("uploadExpiresAt" < now(), false) AS late FROM "image" WHERE id = $1 AND "deletedAt" IS NULL`,
    [id],
  );
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
  await alone(api, id, () => take(api, ctx, id, image));
}

/** Whether the bytes would still be taken, so that nobody goes on sending in vain. */
async function mayGoOn(api: Api, caller: Caller, id: string): Promise<boolean> {
  const [image] = await run<{ projectId: string }>(
    api.database.pool,
    `SELECT "projectId" FROM "image" WHERE id = $1 AND "deletedAt" IS NULL`,
    [id],
  );
  const suspension = image ? await suspensionOf(api.database.pool, image) : null;
  if (suspension) throw new Problem('ACCOUNT_SUSPENDED', `${suspension}: nothing new is made`);
  return image !== undefined && may(caller, 'image.import', placeOf(kinds.image as unknown as Kind, { ...image, id }));
}

async function take(api: Api, ctx: Context, id: string, image: Announced): Promise<void> {
  const { requestId } = ctx.state;
  const kind = kinds.image as unknown as Kind;
  const standing = standingOf(api, ctx, (caller) => mayGoOn(api, caller, id));
  const { signal } = standing;
  const facts = await receiveImage(api.database, id, ctx.req, { limitBytes: config.uploadLimitBytes, signal }).catch(
    (error: unknown) => {
      standing.refuse();
      throw error;
    },
  );
  const wrong =
    image.format && image.format !== facts.format
      ? `the bytes are ${facts.format}, not ${image.format}`
      : image.checksum && image.checksum !== facts.sha256
        ? `the bytes have the sha256 ${facts.sha256}, not ${image.checksum}`
        : null;
  if (wrong) {
    await discardUpload(api.database, id);
    throw new Problem('PRECONDITION_FAILED', wrong);
  }
  const base = {
    kind,
    verb: 'import',
    targetId: id,
    body: {},
    caller: standing.caller,
    requestId,
    sourceAddress: ctx.ip,
    dryRun: false,
    idempotencyKey: null,
    ifMatch: null,
  } as const;
  try {
    await applyChange(api, ctx, { ...base, onBusy: 'fail', facts: { ...facts } });
  } catch (error) {
    // Deleted, say, while its bytes came: nobody else will look for them.
    await discardUnwanted(api, id);
    throw error;
  }
}

/** Throws the upload away, unless the import that takes it over is under way. */
async function discardUnwanted(api: Api, id: string): Promise<void> {
  const [importing] = await run(api.database.pool, `SELECT 1 FROM "image" WHERE id = $1 AND state = 'importing'`, [id]);
  if (!importing) await discardUpload(api.database, id);
}

export function uploadRoutes(router: Router<State>, api: Api): void {
  router.put('/v1/images/:id/content', asks(kinds.image as unknown as Kind, 'import'), async (ctx) => {
    try {
      await receive(api, ctx);
    } catch (error) {
      // What is still on its way would be taken for the next request.
      ctx.set('Connection', 'close');
      throw error;
    }
  });
}
