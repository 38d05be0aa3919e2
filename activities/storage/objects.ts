/** Images in a backup store, and the parts they arrive as. Failures are Problems, so that API and steps share them. */
import { createHash } from 'node:crypto';
import { type Readable, Transform } from 'node:stream';
import type { Database } from '../../database/database.ts';
import { Problem } from '../../runtime/problem.ts';
import { headBytes, type ImageFacts, inspectHead, inspectQcow2Tables, inspectRawEnd } from './imageFormat.ts';
import type { ObjectStore } from './stores/driver.ts';
import { openStore } from './stores/index.ts';

export interface UploadRef {
  imageId: string;
  /** Imports that began before uploads had ids have none. */
  uploadId?: string;
}

/** Where the bytes of one upload wait for their import. Each has a place of its own: no upload that lost its claim writes into another's. */
export const partKey = ({ imageId, uploadId }: UploadRef): string =>
  uploadId ? `parts/${imageId}/${uploadId}` : `parts/${imageId}`;
/** Content and name go together: a key never changes its bytes. */
export const imageKey = (imageId: string, sha256: string, format: string): string =>
  `images/${imageId}/${sha256}.${format}`;

/** The store an image is kept in: the one it names, else the only one of its zone. */
export async function storeOfImage(database: Database, imageId: string): Promise<ObjectStore> {
  const image = await database.prisma.image.findUnique({ where: { id: imageId } });
  if (!image) throw new Problem('NOT_FOUND', `image ${imageId} is gone`);
  if (image.backupStoreId) return openStore(database, image.backupStoreId);
  const stores = await database.prisma.backupStore.findMany({
    where: { zoneId: image.zoneId, state: 'ready', deletedAt: null },
    select: { id: true },
    take: 2,
  });
  const [only] = stores;
  if (!only || stores.length > 1)
    throw new Problem(
      'PRECONDITION_FAILED',
      `the zone has ${only ? 'several backup stores' : 'no backup store'}: image ${imageId} must name one`,
    );
  return openStore(database, only.id);
}

export interface UploadedImage extends Omit<UploadRef, 'imageId'> {
  sizeBytes: number;
  sha256: string;
  format: 'raw' | 'qcow2';
  virtualSizeBytes: number;
}

/** Looks at bytes on their way to the store, and ends the stream with a Problem as soon as one is certain. */
function inspecting(
  limitBytes: number,
  wanted: { checksum: string | null; format: string | null },
): { stream: Transform; received(): number; found(): UploadedImage; head(): Buffer } {
  const hash = createHash('sha256');
  let head = Buffer.alloc(0);
  let last = Buffer.alloc(0);
  let sizeBytes = 0;
  let facts: ImageFacts | undefined;
  let sha256 = '';

  function inspect(): ImageFacts {
    const { format, virtualSizeBytes } = inspectHead(head);
    if (wanted.format !== null && wanted.format !== format)
      throw new Problem('PRECONDITION_FAILED', `the image was announced as ${wanted.format}, the file is ${format}`);
    return { format, virtualSizeBytes };
  }

  function take(chunk: Buffer): void {
    sizeBytes += chunk.length;
    if (sizeBytes > limitBytes)
      throw new Problem('PAYLOAD_TOO_LARGE', `at most ${limitBytes} bytes are taken, more were sent`);
    hash.update(chunk);
    last = Buffer.concat([last, chunk.subarray(-512)]).subarray(-512);
    if (facts) return;
    head = Buffer.concat([head, chunk]).subarray(0, headBytes);
    if (head.length === headBytes) facts = inspect();
  }

  function end(): void {
    if (sizeBytes === 0) throw new Problem('INVALID_ARGUMENT', 'the upload has no bytes');
    facts ??= inspect();
    if (facts.format === 'raw') inspectRawEnd(sizeBytes, last);
    sha256 = hash.digest('hex');
    if (wanted.checksum !== null && wanted.checksum !== sha256)
      throw new Problem('PRECONDITION_FAILED', `the sha256 is ${sha256}, announced was ${wanted.checksum}`);
  }

  const attempt = (work: () => void, done: (error?: Error | null, chunk?: Buffer) => void, chunk?: Buffer): void => {
    try {
      work();
      done(null, chunk);
    } catch (error) {
      done(error as Error);
    }
  };
  const stream = new Transform({
    transform: (chunk: Buffer, _, done) => attempt(() => take(chunk), done, chunk),
    flush: (done) => attempt(end, done),
  });
  return {
    stream,
    received: () => sizeBytes,
    found() {
      if (!facts) throw new Problem('INTERNAL', 'the upload was not inspected');
      return { sizeBytes, sha256, format: facts.format, virtualSizeBytes: facts.virtualSizeBytes ?? sizeBytes };
    },
    head: () => head,
  };
}

/** Ensures that nothing of an upload is left in the image's store. */
export async function discardUpload(database: Database, upload: UploadRef): Promise<void> {
  await (await storeOfImage(database, upload.imageId)).discard(partKey(upload));
}

/** So many bytes must come in each window of so many seconds. */
export interface LeastRate {
  bytes: number;
  seconds: number;
}

/** Ends a stream that hardly moves. For the time in which the sender is held back, because the store is slow, nothing is asked of it. */
function refuseSlow(source: Readable, stream: Transform, received: () => number, rate: LeastRate): () => void {
  const windowMs = rate.seconds * 1_000;
  let before = received();
  let heldMs = 0;
  let heldSince: number | null = null;
  const goesOn = (): void => {
    if (heldSince !== null) heldMs += performance.now() - heldSince;
    heldSince = null;
  };
  const isHeld = (): void => {
    heldSince ??= performance.now();
  };
  const look = (): void => {
    const stillHeld = heldSince !== null;
    goesOn();
    const came = received() - before;
    if (!source.readableEnded && came < rate.bytes * (1 - heldMs / windowMs))
      stream.destroy(
        new Problem(
          'TOO_SLOW',
          `${came} bytes came in ${rate.seconds} seconds; an upload brings at least ${rate.bytes}. Send it again over a faster line`,
        ),
      );
    before = received();
    heldMs = 0;
    if (stillHeld) isHeld();
  };
  const timer = setInterval(look, windowMs);
  source.on('pause', isHeld).on('resume', goesOn);
  return () => {
    clearInterval(timer);
    source.off('pause', isHeld).off('resume', goesOn);
  };
}

/**
 * Takes an image's bytes into its store and answers what they are. Nothing is left in the store when it fails.
 *
 * `source` is left undestroyed on failure, so that its connection can still carry the answer.
 *
 * @throws Problem PAYLOAD_TOO_LARGE, TOO_SLOW, PRECONDITION_FAILED (format, checksum), INVALID_ARGUMENT (no bytes, or broken off),
 * INVALID_STATE, NOT_FOUND, CANCELLED, BACKEND_UNAVAILABLE
 */
export async function receiveImage(
  database: Database,
  upload: Required<UploadRef>,
  source: Readable,
  { limitBytes, leastRate, signal }: { limitBytes: number; leastRate: LeastRate; signal: AbortSignal },
): Promise<UploadedImage> {
  const { imageId } = upload;
  const image = await database.prisma.image.findUnique({ where: { id: imageId } });
  if (!image || image.deletedAt) throw new Problem('NOT_FOUND', `there is no image ${imageId}`);
  if (image.state !== 'awaitingUpload')
    throw new Problem(
      'INVALID_STATE',
      `image ${imageId} is ${image.state}; bytes are taken while it is awaitingUpload`,
    );
  const store = await storeOfImage(database, imageId);
  if (store.readOnly) throw new Problem('PRECONDITION_FAILED', `backup store ${store.id} is read-only`);

  const key = partKey(upload);
  const { stream, received, found, head } = inspecting(limitBytes, image);
  const breakOff = (code: 'INVALID_ARGUMENT' | 'CANCELLED', message: string) => () =>
    void stream.destroy(new Problem(code, message));
  const onBroken = breakOff('INVALID_ARGUMENT', 'the upload broke off before its end');
  const onClose = (): void => {
    if (!source.readableEnded) onBroken();
  };
  const onAbort = breakOff('CANCELLED', 'the upload was cancelled');
  // The store's client reports a broken stream in its own words; ours say what the sender can do.
  let problem: Error | undefined;
  stream.on('error', (error) => {
    problem = error;
  });
  source.on('error', onBroken).on('close', onClose);
  signal.addEventListener('abort', onAbort, { once: true });
  const letGo = refuseSlow(source, stream, received, leastRate);
  if (source.destroyed) onBroken();
  if (signal.aborted) onAbort();
  try {
    source.pipe(stream);
    await store.putStream(key, stream);
    const facts = { ...found(), uploadId: upload.uploadId };
    // The tables may be anywhere in the file: they are looked at once all of it is there.
    if (facts.format === 'qcow2')
      await inspectQcow2Tables(head(), facts.sizeBytes, (offset, length) => store.readRange(key, offset, length));
    return facts;
  } catch (error) {
    source.unpipe(stream);
    stream.destroy();
    await store.discard(key).catch(() => {
      // The store is away. What is left goes with the next upload, import or deletion of this image.
    });
    throw problem ?? error;
  } finally {
    source.off('error', onBroken).off('close', onClose);
    letGo();
    signal.removeEventListener('abort', onAbort);
  }
}
