/** Objects in a backup store (S3): images, and the parts they arrive as. Failures are Problems, so that API and steps share them. */
import { createHash } from 'node:crypto';
import { type Readable, Transform } from 'node:stream';
import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CopyObjectCommand,
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  HeadBucketCommand,
  HeadObjectCommand,
  ListMultipartUploadsCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  UploadPartCommand,
  UploadPartCopyCommand,
} from '@aws-sdk/client-s3';
import { getSignedUrl } from '@aws-sdk/s3-request-presigner';
import type { Database } from '../../database/database.ts';
import { readSecret } from '../../database/secrets.ts';
import { type ObjectStoreClient, objectStoreClient } from '../../runtime/objectStore.ts';
import { Problem } from '../../runtime/problem.ts';
import { headBytes, type ImageFacts, inspectHead, inspectQcow2Tables, inspectRawEnd } from './imageFormat.ts';

export interface UploadRef {
  imageId: string;
  /** Imports that began before uploads had ids have none. */
  uploadId?: string;
}

export interface ObjectStore {
  id: string;
  bucket: string;
  readOnly: boolean;
  client: ObjectStoreClient;
}

/** Where the bytes of one upload wait for their import. Each has a place of its own: no upload that lost its claim writes into another's. */
export const partKey = ({ imageId, uploadId }: UploadRef): string =>
  uploadId ? `parts/${imageId}/${uploadId}` : `parts/${imageId}`;
/** Content and name go together: a key never changes its bytes. */
export const imageKey = (imageId: string, sha256: string, format: string): string =>
  `images/${imageId}/${sha256}.${format}`;

/** A client keeps its connections open, so one is kept per store until the record changes. */
const clients = new Map<string, { revision: number; client: ObjectStoreClient }>();

/** @throws Problem NOT_FOUND, or PRECONDITION_FAILED when the store's secret key is not known */
export async function openStore(database: Database, backupStoreId: string): Promise<ObjectStore> {
  const store = await database.prisma.backupStore.findUnique({ where: { id: backupStoreId } });
  if (!store) throw new Problem('NOT_FOUND', `backup store ${backupStoreId} is gone`);
  const { id, bucket, readOnly, revision } = store;
  const kept = clients.get(id);
  if (kept?.revision === revision) return { id, bucket, readOnly, client: kept.client };
  const secretKey = await readSecret(database, { kind: 'backupStore', id }, 'secretKey');
  if (!secretKey) throw new Problem('PRECONDITION_FAILED', `backup store ${id} has no secret key`);
  const client = objectStoreClient({
    endpoint: store.endpoint,
    region: store.region,
    accessKey: store.accessKey,
    secretKey,
  });
  clients.set(id, { revision, client });
  return { id, bucket, readOnly, client };
}

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

interface S3Failure {
  name?: string;
  message?: string;
  Code?: string;
  $metadata?: { httpStatusCode?: number };
}

/** Runs one exchange with the store and says of a failure what was wanted, and whether trying again may help. */
async function exchange<T>(store: ObjectStore, wanted: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof Problem) throw error;
    const { name, message, Code, $metadata } = error as S3Failure;
    const status = $metadata?.httpStatusCode ?? 0;
    // An empty answer makes the client say "UnknownError"; the status then says more.
    const cause = [Code ?? (name === 'UnknownError' ? `HTTP ${status}` : name), message].filter(Boolean).join(': ');
    const isRefusal = status >= 400 && status < 500 && status !== 408 && status !== 429;
    throw new Problem(
      isRefusal ? 'PRECONDITION_FAILED' : 'BACKEND_UNAVAILABLE',
      `backup store ${store.id} (bucket ${store.bucket}) did not ${wanted}: ${cause}`,
    );
  }
}

const isAbsent = (error: unknown): boolean => {
  const { name, $metadata } = error as S3Failure;
  return name === 'NotFound' || name === 'NoSuchKey' || name === 'NoSuchUpload' || $metadata?.httpStatusCode === 404;
};

/** Size of an object in bytes; null when there is none. */
export function sizeOf(store: ObjectStore, key: string): Promise<number | null> {
  return exchange(store, `tell of ${key}`, async () => {
    try {
      const head = await store.client.send(new HeadObjectCommand({ Bucket: store.bucket, Key: key }));
      return head.ContentLength ?? 0;
    } catch (error) {
      if (isAbsent(error)) return null;
      throw error;
    }
  });
}

/** Ensures that neither the object nor a half-done upload of it is there. */
export function discard(store: ObjectStore, key: string): Promise<void> {
  const { client, bucket: Bucket } = store;
  return exchange(store, `delete ${key}`, async () => {
    const { Uploads = [] } = await client.send(new ListMultipartUploadsCommand({ Bucket, Prefix: key }));
    for (const { Key, UploadId } of Uploads) if (Key === key) await abort(store, key, UploadId);
    await client.send(new DeleteObjectCommand({ Bucket, Key: key }));
  });
}

async function abort(
  { client, bucket: Bucket }: ObjectStore,
  Key: string,
  UploadId: string | undefined,
): Promise<void> {
  await client.send(new AbortMultipartUploadCommand({ Bucket, Key, UploadId })).catch((error: unknown) => {
    if (!isAbsent(error)) throw error;
  });
}

/** Ensures that nothing is there of any upload of an image. */
export function discardAllUploads(store: ObjectStore, imageId: string): Promise<void> {
  const { client, bucket: Bucket } = store;
  const Prefix = partKey({ imageId });
  return exchange(store, `delete ${Prefix}`, async () => {
    const { Uploads = [] } = await client.send(new ListMultipartUploadsCommand({ Bucket, Prefix }));
    // What another image is sent is nobody's here, whatever a store lists.
    for (const { Key, UploadId } of Uploads) if (Key?.startsWith(Prefix)) await abort(store, Key, UploadId);
    const { Contents = [] } = await client.send(new ListObjectsV2Command({ Bucket, Prefix }));
    for (const { Key } of Contents) await client.send(new DeleteObjectCommand({ Bucket, Key }));
  });
}

/** S3's limit of one copy request. */
const copyLimitBytes = 5 * 2 ** 30;
const copyPartBytes = 2 ** 30;

/** Copies inside the store; no bytes travel through here. */
export function copy(store: ObjectStore, from: string, to: string, sizeBytes: number): Promise<void> {
  const { client, bucket: Bucket } = store;
  const CopySource = `${Bucket}/${from}`;
  return exchange(store, `copy ${from} to ${to}`, async () => {
    if (sizeBytes <= copyLimitBytes) {
      await client.send(new CopyObjectCommand({ Bucket, Key: to, CopySource }));
      return;
    }
    const { UploadId } = await client.send(new CreateMultipartUploadCommand({ Bucket, Key: to }));
    const Parts = [];
    for (let first = 0, PartNumber = 1; first < sizeBytes; first += copyPartBytes, PartNumber++) {
      const last = Math.min(first + copyPartBytes, sizeBytes) - 1;
      const part = await client.send(
        new UploadPartCopyCommand({
          Bucket,
          Key: to,
          CopySource,
          UploadId,
          PartNumber,
          CopySourceRange: `bytes=${first}-${last}`,
        }),
      );
      Parts.push({ PartNumber, ETag: part.CopyPartResult?.ETag });
    }
    await client.send(new CompleteMultipartUploadCommand({ Bucket, Key: to, UploadId, MultipartUpload: { Parts } }));
  });
}

/** So many bytes of an object from there on; fewer only at its end. */
function readRange(store: ObjectStore, key: string, offset: number, length: number): Promise<Buffer> {
  const Range = `bytes=${offset}-${offset + length - 1}`;
  return exchange(store, `give a part of ${key}`, async () => {
    const read = await store.client.send(new GetObjectCommand({ Bucket: store.bucket, Key: key, Range }));
    return Buffer.from((await read.Body?.transformToByteArray()) ?? []);
  });
}

/** Writes a whole object. */
export const put = (store: ObjectStore, key: string, bytes: Uint8Array): Promise<void> =>
  exchange(store, `take ${key}`, async () => {
    await store.client.send(new PutObjectCommand({ Bucket: store.bucket, Key: key, Body: bytes }));
  });

/** Reads a whole object; null when there is none. */
export const get = (store: ObjectStore, key: string): Promise<Buffer | null> =>
  exchange(store, `give ${key}`, async () => {
    try {
      const read = await store.client.send(new GetObjectCommand({ Bucket: store.bucket, Key: key }));
      return Buffer.from((await read.Body?.transformToByteArray()) ?? []);
    } catch (error) {
      if (isAbsent(error)) return null;
      throw error;
    }
  });

/** The stores that bytes may be written to now, the oldest first. */
export async function openStores(database: Database): Promise<ObjectStore[]> {
  const stores = await database.prisma.backupStore.findMany({
    where: { state: 'ready', enabled: true, readOnly: false, deletedAt: null },
    orderBy: [{ createdAt: 'asc' }, { id: 'asc' }],
    select: { id: true },
  });
  return Promise.all(stores.map(({ id }) => openStore(database, id)));
}

/** A URL that whoever has it may read the object by, until it expires. It is a secret: never logged, never kept. */
export const readUrl = (store: ObjectStore, key: string, expiresInSeconds: number): Promise<string> =>
  getSignedUrl(store.client, new GetObjectCommand({ Bucket: store.bucket, Key: key }), {
    expiresIn: expiresInSeconds,
  });

/** @throws Problem PRECONDITION_FAILED when there is no such bucket or the keys do not open it, BACKEND_UNAVAILABLE */
export const reach = (store: ObjectStore): Promise<void> =>
  exchange(store, 'open', async () => {
    await store.client.send(new HeadBucketCommand({ Bucket: store.bucket }));
  });

/** Writes, reads and deletes a small object. */
export function probe(store: ObjectStore, key: string): Promise<void> {
  const { client, bucket: Bucket } = store;
  return exchange(store, 'pass the probe', async () => {
    await client.send(new PutObjectCommand({ Bucket, Key: key, Body: key }));
    const read = await client.send(new GetObjectCommand({ Bucket, Key: key }));
    if ((await read.Body?.transformToString()) !== key)
      throw new Problem('PRECONDITION_FAILED', `backup store ${store.id} answered other bytes than it was given`);
    await client.send(new DeleteObjectCommand({ Bucket, Key: key }));
  });
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

/**
 * S3 takes at most 10,000 parts and wants at least 5 MiB in each but the last. They double every thousand: nobody has to know the
 * length beforehand, 8 GiB go through in parts of 8 MiB, and 1 TiB is over before the seven thousandth.
 */
const partBytesOf = (partNumber: number): number => 8 * 2 ** 20 * 2 ** Math.floor((partNumber - 1) / 1_000);

async function* inParts(source: Readable): AsyncGenerator<Buffer> {
  let chunks: Buffer[] = [];
  let bytes = 0;
  let partNumber = 1;
  for await (const chunk of source) {
    chunks.push(chunk as Buffer);
    bytes += (chunk as Buffer).length;
    if (bytes < partBytesOf(partNumber)) continue;
    yield Buffer.concat(chunks);
    chunks = [];
    bytes = 0;
    partNumber++;
  }
  if (bytes > 0) yield Buffer.concat(chunks);
}

/** Streams an object of unknown length into the store: one part is sent while the next is gathered. */
function putStream(store: ObjectStore, key: string, source: Readable): Promise<void> {
  const { client, bucket: Bucket } = store;
  return exchange(store, `take ${key}`, async () => {
    const { UploadId } = await client.send(new CreateMultipartUploadCommand({ Bucket, Key: key }));
    const Parts: { PartNumber: number; ETag: string | undefined }[] = [];
    let sending: Promise<unknown> = Promise.resolve();
    try {
      for await (const Body of inParts(source)) {
        await sending;
        const PartNumber = Parts.length + 1;
        sending = client
          .send(new UploadPartCommand({ Bucket, Key: key, UploadId, PartNumber, Body }))
          .then(({ ETag }) => Parts.push({ PartNumber, ETag }));
        // Its failure is met where it is awaited; until then it must not end the process.
        sending.catch(() => {});
      }
    } finally {
      // A part still on its way would outlive the upload that is discarded after a failure.
      await sending;
    }
    await client.send(new CompleteMultipartUploadCommand({ Bucket, Key: key, UploadId, MultipartUpload: { Parts } }));
  });
}

/** Ensures that nothing of an upload is left in the image's store. */
export async function discardUpload(database: Database, upload: UploadRef): Promise<void> {
  await discard(await storeOfImage(database, upload.imageId), partKey(upload));
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
    await putStream(store, key, stream);
    const facts = { ...found(), uploadId: upload.uploadId };
    // The tables may be anywhere in the file: they are looked at once all of it is there.
    if (facts.format === 'qcow2')
      await inspectQcow2Tables(head(), facts.sizeBytes, (offset, length) => readRange(store, key, offset, length));
    return facts;
  } catch (error) {
    source.unpipe(stream);
    stream.destroy();
    await discard(store, key).catch(() => {
      // The store is away. What is left goes with the next upload, import or deletion of this image.
    });
    throw problem ?? error;
  } finally {
    source.off('error', onBroken).off('close', onClose);
    letGo();
    signal.removeEventListener('abort', onAbort);
  }
}
