/** The bytes of an announced image, streamed to its backup store and checked on the way. */
import type Router from '@koa/router';
import { discardUpload, receiveImage } from '../activities/storage/objects.ts';
import { run } from '../database/database.ts';
import type { Kind } from '../model/kind.ts';
import { kinds } from '../model/kinds.ts';
import { config } from '../runtime/config.ts';
import { Problem } from '../runtime/problem.ts';
import { may } from './caller.ts';
import { type Api, abortOf, applyChange, type Context, type State, uuidOf } from './request.ts';

interface Announced {
  projectId: string;
  state: string;
  format: string | null;
  checksum: string | null;
}

async function receive(api: Api, ctx: Context): Promise<void> {
  const kind = kinds.image as unknown as Kind;
  const id = uuidOf(ctx, kind);
  const { caller, requestId } = ctx.state;
  const [image] = await run<Announced>(
    api.database.pool,
    `SELECT "projectId", state, format, checksum FROM "image" WHERE id = $1 AND "deletedAt" IS NULL`,
    [id],
  );
  if (!image || !may(caller, 'image.get', { projectId: image.projectId, resourceId: id }))
    throw new Problem('NOT_FOUND', `there is no image ${id}`);
  if (!may(caller, 'image.import', { projectId: image.projectId, resourceId: id }))
    throw new Problem('FORBIDDEN', 'you need the permission image.import here');
  if (image.state !== 'awaitingUpload')
    throw new Problem('INVALID_STATE', `image ${id} is ${image.state}; its bytes were uploaded already`, {
      fits: ['awaitingUpload'],
    });
  const facts = await receiveImage(api.database, id, ctx.req, {
    limitBytes: config.uploadLimitBytes,
    signal: abortOf(ctx),
  });
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
    caller,
    requestId,
    sourceAddress: ctx.ip,
    dryRun: false,
    idempotencyKey: null,
    ifMatch: null,
  } as const;
  await applyChange(api, ctx, { ...base, onBusy: 'fail', facts: { ...facts } });
}

export function uploadRoutes(router: Router<State>, api: Api): void {
  router.put('/v1/images/:id/content', (ctx) => receive(api, ctx));
}
