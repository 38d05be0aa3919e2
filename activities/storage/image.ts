import { setTimeout } from 'node:timers/promises';
import { Context } from '@temporalio/activity';
import { dropImport, importedCopy, isCaching, keepCopy } from '../../database/imageCopies.ts';
import { from, statement, type ValueOf, type Values } from '../../database/statement.ts';
import { refuse } from '../failure.ts';
import { asHolder } from '../holder.ts';
import { step } from '../step.ts';
import type { World } from '../world.ts';
import { driverOf } from './drivers/index.ts';
import { claimCopy, endRemoval, removeUnused } from './imageCache.ts';
import { discardUpload, imageKey, partKey, storeOfImage, type UploadedImage } from './objects.ts';
import { poolOf } from './pool.ts';
import { poolAgent } from './poolHost.ts';

interface ImageRef {
  imageId: string;
}
interface CachedCopy extends ImageRef {
  hostId: string;
  poolId: string;
}

const gib = 2 ** 30;
/** Age is no reason to remove a copy while another is made; want of room is. */
const neverSeconds = 10 ** 10;
/** As long as an import may take, and the next attempt's too. */
const urlSeconds = 2 * 3600;

const importTask = (operationId: string, { imageId, poolId }: CachedCopy): string =>
  `${operationId}-import-${imageId}-${poolId}`;

interface Facts {
  checksum: string | null;
  format: ValueOf<'image', 'format'> | null;
  sizeBytes: number | null;
  minSizeGib: number | null;
  objectKey: string | null;
}

const writeFacts = statement((p: Values<Facts & ImageRef>) =>
  from
    .updateTable('image')
    .set({
      checksum: p.checksum,
      format: p.format,
      sizeBytes: p.sizeBytes,
      minSizeGib: p.minSizeGib,
      objectKey: p.objectKey,
    })
    .where('id', '=', p.imageId),
);

export const images = (world: World) => ({
  /**
   * What arrived is what was announced. Answers the announcement, which the facts will overwrite. The undo throws the upload
   * away: the bytes must be sent again.
   */
  verify: step({
    system: 'rgw',
    async do({ imageId, sha256, format }: ImageRef & UploadedImage): Promise<Pick<Facts, 'checksum' | 'format'>> {
      const image = await world.database.prisma.image.findUniqueOrThrow({ where: { id: imageId } });
      if (image.checksum !== null && image.checksum !== sha256)
        throw refuse('PRECONDITION_FAILED', `the sha256 is ${sha256}, announced was ${image.checksum}`);
      if (image.format !== null && image.format !== format)
        throw refuse('PRECONDITION_FAILED', `the image was announced as ${image.format}, the file is ${format}`);
      return { checksum: image.checksum, format: image.format as Facts['format'] };
    },
    undoText: 'delete upload',
    undo: (upload) => discardUpload(world.database, upload),
  }),

  /** The uploaded part under its final name. */
  publish: step({
    system: 'rgw',
    async do(upload: ImageRef & UploadedImage) {
      const { imageId, sha256, format, sizeBytes } = upload;
      const store = await storeOfImage(world.database, imageId);
      const part = partKey(upload);
      const key = imageKey(imageId, sha256, format);
      if ((await store.sizeOf(key)) !== sizeBytes) {
        const uploadedBytes = await store.sizeOf(part);
        if (uploadedBytes !== sizeBytes)
          throw refuse(
            'PRECONDITION_FAILED',
            `the uploaded part of image ${imageId} has ${uploadedBytes ?? 'no'} bytes, ${sizeBytes} were received: upload it again`,
          );
        await store.copy(part, key, sizeBytes);
      }
      await store.discard(part);
    },
    undoText: 'delete object',
    async undo({ imageId, sha256, format }) {
      const store = await storeOfImage(world.database, imageId);
      await store.discard(imageKey(imageId, sha256, format));
    },
  }),

  /** What the bytes told, in the record. */
  describe: step({
    system: 'record',
    async do(
      {
        imageId,
        sha256,
        format,
        sizeBytes,
        virtualSizeBytes,
      }: ImageRef & UploadedImage & { announced: Pick<Facts, 'checksum' | 'format'> },
      context,
    ) {
      const minSizeGib = Math.max(1, Math.ceil(virtualSizeBytes / gib));
      const objectKey = imageKey(imageId, sha256, format);
      await asHolder(world.database, context, (tx) =>
        writeFacts(tx, { imageId, checksum: sha256, format, sizeBytes, minSizeGib, objectKey }),
      );
    },
    undoText: 'as announced',
    async undo({ imageId, announced }, context) {
      await asHolder(world.database, context, (tx) =>
        writeFacts(tx, { imageId, ...announced, sizeBytes: null, minSizeGib: null, objectKey: null }),
      );
    },
  }),

  /**
   * The image's copy in a pool, from which volumes are cloned. However many ask, one imports and the others wait for it. A ready
   * copy is a cache: it stays when the operation that made it fails later.
   */
  cache: step({
    system: 'rbd',
    async do(input: CachedCopy, { operationId }) {
      const { cancellationSignal: signal } = Context.current();
      const { imageId, hostId, poolId } = input;
      for (let waitMs = 100; ; waitMs = Math.min(waitMs * 1.5, 2_000)) {
        const state = await claimCopy(world, input, operationId);
        if (state === 'ready') return;
        if (state === 'mine') break;
        await endRemoval(world, { ...input, operationId }, signal);
        await setTimeout(waitMs, undefined, { signal });
      }
      const image = await world.database.prisma.image.findUniqueOrThrow({ where: { id: imageId } });
      const { checksum, format, objectKey } = image;
      if (!checksum || !objectKey || (format !== 'raw' && format !== 'qcow2'))
        throw refuse('INVALID_STATE', `image ${imageId} has no bytes yet`);
      await removeUnused(world, { hostId, poolId, operationId, unusedForSeconds: neverSeconds }, signal);
      const store = await storeOfImage(world.database, imageId);
      const source = {
        url: await store.readUrl(objectKey, urlSeconds),
        format,
        sha256: checksum,
        tags: {
          id: imageId,
          kind: 'image',
          operation: operationId,
          revision: image.revision,
          projectId: image.projectId,
        },
      } as const;
      const pool = await poolOf(world, poolId);
      const agent = await poolAgent(world, hostId, pool);
      await driverOf(pool).importImage(agent, pool, imageId, { id: importTask(operationId, input), source, signal });
      await importedCopy(world.database.connections, { imageId, poolId, operationId });
    },
    undoText: 'remove part',
    async undo(input, { operationId }) {
      const { imageId, hostId, poolId } = input;
      const own = { imageId, poolId, operationId };
      const [caching] = await isCaching(world.database.connections, own);
      if (!caching) return;
      const pool = await poolOf(world, poolId);
      const agent = await poolAgent(world, hostId, pool);
      const task = { id: importTask(operationId, input), operationId };
      // Nobody has cloned it: the row never said that it is ready, and nobody takes over before this operation has ended.
      if (await driverOf(pool).cancelImport(agent, pool, imageId, task)) {
        await keepCopy(world.database.connections, own);
        return;
      }
      await dropImport(world.database.connections, own);
    },
  }),

  /** The bytes in the store. Copies in pools stay as long as something that was cloned from them lives on them. */
  remove: step({
    system: 'rgw',
    async do({ imageId }: ImageRef) {
      const image = await world.database.prisma.image.findUniqueOrThrow({ where: { id: imageId } });
      const store = await storeOfImage(world.database, imageId);
      if (image.objectKey) await store.discard(image.objectKey);
      await store.discardAll(partKey({ imageId }));
    },
  }),
});
