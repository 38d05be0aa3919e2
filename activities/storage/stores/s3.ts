/** Buckets of whatever speaks S3. */
import type { Readable } from 'node:stream';
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
import { readSecret } from '../../../database/secrets.ts';
import { type ObjectStoreClient, objectStoreClient } from '../../../runtime/objectStore.ts';
import { Problem } from '../../../runtime/problem.ts';
import type { ObjectStore, StoreDriver } from './driver.ts';

interface Bucket {
  id: string;
  bucket: string;
  client: ObjectStoreClient;
}

/** A client keeps its connections open, so one is kept per store until the record changes. */
const clients = new Map<string, { revision: number; client: ObjectStoreClient }>();

export const s3: StoreDriver = async (database, { id, bucket, readOnly, revision, endpoint, region, accessKey }) => {
  const kept = clients.get(id);
  if (kept?.revision === revision) return storeOn({ id, bucket, client: kept.client }, readOnly);
  const secretKey = await readSecret(database, { kind: 'backupStore', id }, 'secretKey');
  if (!secretKey) throw new Problem('PRECONDITION_FAILED', `backup store ${id} has no secret key`);
  const client = objectStoreClient({ endpoint, region, accessKey, secretKey });
  clients.set(id, { revision, client });
  return storeOn({ id, bucket, client }, readOnly);
};

const storeOn = (store: Bucket, readOnly: boolean): ObjectStore => ({
  id: store.id,
  readOnly,
  reach: () => reach(store),
  probe: (key) => probe(store, key),
  sizeOf: (key) => sizeOf(store, key),
  put: (key, bytes) => put(store, key, bytes),
  putStream: (key, source) => putStream(store, key, source),
  get: (key) => get(store, key),
  readRange: (key, offset, length) => readRange(store, key, offset, length),
  copy: (from, to, sizeBytes) => copy(store, from, to, sizeBytes),
  discard: (key) => discard(store, key),
  discardAll: (prefix) => discardAll(store, prefix),
  readUrl: (key, expiresIn) =>
    getSignedUrl(store.client, new GetObjectCommand({ Bucket: store.bucket, Key: key }), { expiresIn }),
});

interface S3Failure {
  name?: string;
  message?: string;
  Code?: string;
  $metadata?: { httpStatusCode?: number };
}

/** Runs one exchange with the store and says of a failure what was wanted, and whether trying again may help. */
async function exchange<T>(store: Bucket, wanted: string, work: () => Promise<T>): Promise<T> {
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

function sizeOf(store: Bucket, key: string): Promise<number | null> {
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

function discard(store: Bucket, key: string): Promise<void> {
  const { client, bucket: Bucket } = store;
  return exchange(store, `delete ${key}`, async () => {
    const { Uploads = [] } = await client.send(new ListMultipartUploadsCommand({ Bucket, Prefix: key }));
    for (const { Key, UploadId } of Uploads) if (Key === key) await abort(store, key, UploadId);
    await client.send(new DeleteObjectCommand({ Bucket, Key: key }));
  });
}

async function abort({ client, bucket: Bucket }: Bucket, Key: string, UploadId: string | undefined): Promise<void> {
  await client.send(new AbortMultipartUploadCommand({ Bucket, Key, UploadId })).catch((error: unknown) => {
    if (!isAbsent(error)) throw error;
  });
}

function discardAll(store: Bucket, Prefix: string): Promise<void> {
  const { client, bucket: Bucket } = store;
  return exchange(store, `delete ${Prefix}`, async () => {
    const { Uploads = [] } = await client.send(new ListMultipartUploadsCommand({ Bucket, Prefix }));
    // Whatever a store lists beside.
    for (const { Key, UploadId } of Uploads) if (Key?.startsWith(Prefix)) await abort(store, Key, UploadId);
    const { Contents = [] } = await client.send(new ListObjectsV2Command({ Bucket, Prefix }));
    for (const { Key } of Contents) await client.send(new DeleteObjectCommand({ Bucket, Key }));
  });
}

/** S3's limit of one copy request. */
const copyLimitBytes = 5 * 2 ** 30;
const copyPartBytes = 2 ** 30;

function copy(store: Bucket, from: string, to: string, sizeBytes: number): Promise<void> {
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
function readRange(store: Bucket, key: string, offset: number, length: number): Promise<Buffer> {
  const Range = `bytes=${offset}-${offset + length - 1}`;
  return exchange(store, `give a part of ${key}`, async () => {
    const read = await store.client.send(new GetObjectCommand({ Bucket: store.bucket, Key: key, Range }));
    return Buffer.from((await read.Body?.transformToByteArray()) ?? []);
  });
}

const put = (store: Bucket, key: string, bytes: Uint8Array): Promise<void> =>
  exchange(store, `take ${key}`, async () => {
    await store.client.send(new PutObjectCommand({ Bucket: store.bucket, Key: key, Body: bytes }));
  });

const get = (store: Bucket, key: string): Promise<Buffer | null> =>
  exchange(store, `give ${key}`, async () => {
    try {
      const read = await store.client.send(new GetObjectCommand({ Bucket: store.bucket, Key: key }));
      return Buffer.from((await read.Body?.transformToByteArray()) ?? []);
    } catch (error) {
      if (isAbsent(error)) return null;
      throw error;
    }
  });

const reach = (store: Bucket): Promise<void> =>
  exchange(store, 'open', async () => {
    await store.client.send(new HeadBucketCommand({ Bucket: store.bucket }));
  });

function probe(store: Bucket, key: string): Promise<void> {
  const { client, bucket: Bucket } = store;
  return exchange(store, 'pass the probe', async () => {
    await client.send(new PutObjectCommand({ Bucket, Key: key, Body: key }));
    const read = await client.send(new GetObjectCommand({ Bucket, Key: key }));
    if ((await read.Body?.transformToString()) !== key)
      throw new Problem('PRECONDITION_FAILED', `backup store ${store.id} answered other bytes than it was given`);
    await client.send(new DeleteObjectCommand({ Bucket, Key: key }));
  });
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
function putStream(store: Bucket, key: string, source: Readable): Promise<void> {
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
