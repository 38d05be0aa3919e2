/**
 * A small S3 store, path-style, objects in memory. It takes any SigV4 signature, in the header or presigned, whose access key is
 * the configured one, checks that a presigned URL has not expired, and unwraps `aws-chunked` bodies with trailing checksums.
 */
import { createHash, randomUUID } from 'node:crypto';
import http, { type IncomingMessage, type ServerResponse } from 'node:http';
import { Problem } from '../../host-agent/problem.ts';
import { compare } from './ceph.ts';
import type { Faults } from './faults.ts';

export interface S3Credentials {
  accessKey: string;
  secretKey: string;
}

interface StoredObject {
  chunks: Buffer[];
  sizeBytes: number;
  etag: string;
  contentType: string;
  modifiedAt: Date;
  metadata: Record<string, string>;
}

interface Upload {
  id: string;
  key: string;
  contentType: string;
  metadata: Record<string, string>;
  startedAt: Date;
  parts: Map<number, StoredObject>;
}

interface Bucket {
  name: string;
  objects: Map<string, StoredObject>;
  uploads: Map<string, Upload>;
}

export interface S3Record {
  /** Key → size and digest. */
  objects: Record<string, { sizeBytes: number; etag: string }>;
  /** Keys of multipart uploads that were neither completed nor aborted. */
  unfinishedUploads: string[];
}

export interface S3Server {
  server: http.Server;
  record(): Record<string, S3Record>;
}

class S3Error extends Error {
  readonly status: number;
  readonly code: string;
  constructor(status: number, code: string, message: string) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

const noSuchKey = () => new S3Error(404, 'NoSuchKey', 'The specified key does not exist.');

export function createS3Server({ accessKey }: S3Credentials, bucketNames: string[], faults: Faults): S3Server {
  const buckets = new Map<string, Bucket>();
  for (const name of bucketNames) buckets.set(name, { name, objects: new Map(), uploads: new Map() });

  const server = http.createServer((request, response) => {
    serve(request, response).catch((error: unknown) => answerError(request, response, error));
  });
  server.keepAliveTimeout = 600_000;
  server.requestTimeout = 0;

  async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', 'http://s3');
    const method = request.method ?? 'GET';
    const gone = () => {
      const closed = new AbortController();
      response.on('close', () => closed.abort());
      return closed.signal;
    };
    const before = faults.strike('s3', [`s3.${method}`], 'before', gone);
    if (before && (await before) === 'drop') return void response.socket?.destroy();
    authorize(request, url, accessKey);
    const [, bucketName = '', ...rest] = url.pathname.split('/');
    const key = decodeURIComponent(rest.join('/'));
    const send = await (key === ''
      ? serveBucket(method, decodeURIComponent(bucketName), url.searchParams, request)
      : serveObject(method, findBucket(bucketName), key, url.searchParams, request));
    const after = faults.strike('s3', [`s3.${method}`], 'after', gone);
    if (after && (await after) === 'drop') return void response.socket?.destroy();
    send(response);
  }

  function findBucket(name: string): Bucket {
    const bucket = buckets.get(name);
    if (!bucket) throw new S3Error(404, 'NoSuchBucket', `The bucket ${name} does not exist.`);
    return bucket;
  }

  async function serveBucket(method: string, name: string, query: URLSearchParams, request: IncomingMessage) {
    if (name === '' && method === 'GET') return xml(listBuckets(buckets));
    if (method === 'PUT') {
      await readBody(request);
      if (!buckets.has(name)) buckets.set(name, { name, objects: new Map(), uploads: new Map() });
      return empty(200);
    }
    const bucket = findBucket(name);
    switch (method) {
      case 'HEAD':
        return empty(200);
      case 'GET':
        if (query.has('uploads')) return xml(listUploads(bucket, query.get('prefix') ?? ''));
        if (query.has('location')) return xml('<LocationConstraint xmlns="http://s3.amazonaws.com/doc/2006-03-01/"/>');
        return xml(listObjects(bucket, query));
      case 'POST':
        if (query.has('delete')) return xml(deleteObjects(bucket, (await readBody(request)).chunks));
        break;
      case 'DELETE':
        if (bucket.objects.size > 0) throw new S3Error(409, 'BucketNotEmpty', `The bucket ${name} is not empty.`);
        buckets.delete(name);
        return empty(204);
    }
    throw new S3Error(501, 'NotImplemented', `${method} on a bucket with ${query} is not simulated.`);
  }

  async function serveObject(
    method: string,
    bucket: Bucket,
    key: string,
    query: URLSearchParams,
    request: IncomingMessage,
  ) {
    const uploadId = query.get('uploadId');
    switch (method) {
      case 'GET':
      case 'HEAD': {
        const object = bucket.objects.get(key);
        if (!object) throw noSuchKey();
        return objectAnswer(object, request.headers.range, method === 'HEAD');
      }
      case 'PUT': {
        const source = request.headers['x-amz-copy-source'];
        if (typeof source === 'string' && uploadId === null) {
          await readBody(request);
          return xml(copyObject(bucket, key, source));
        }
        const body = await readBody(request);
        const object = storedObject(body, request);
        if (uploadId !== null) {
          findUpload(bucket, uploadId).parts.set(Number(query.get('partNumber')), object);
        } else {
          if (request.headers['if-none-match'] === '*' && bucket.objects.has(key))
            throw new S3Error(412, 'PreconditionFailed', `${key} exists.`);
          bucket.objects.set(key, object);
        }
        return empty(200, { etag: object.etag });
      }
      case 'POST': {
        if (query.has('uploads')) {
          await readBody(request);
          const upload = startUpload(bucket, key, request);
          return xml(
            `<InitiateMultipartUploadResult><Bucket>${escapeXml(bucket.name)}</Bucket><Key>${escapeXml(key)}</Key>` +
              `<UploadId>${upload.id}</UploadId></InitiateMultipartUploadResult>`,
          );
        }
        if (uploadId === null) break;
        const { chunks } = await readBody(request);
        const object = completeUpload(bucket, findUpload(bucket, uploadId), Buffer.concat(chunks).toString('utf8'));
        return xml(
          `<CompleteMultipartUploadResult><Bucket>${escapeXml(bucket.name)}</Bucket><Key>${escapeXml(key)}</Key>` +
            `<ETag>${escapeXml(object.etag)}</ETag></CompleteMultipartUploadResult>`,
        );
      }
      case 'DELETE':
        if (uploadId !== null) {
          findUpload(bucket, uploadId);
          bucket.uploads.delete(uploadId);
        } else bucket.objects.delete(key);
        return empty(204);
    }
    throw new S3Error(501, 'NotImplemented', `${method} on an object with ${query} is not simulated.`);
  }

  function copyObject(bucket: Bucket, key: string, source: string): string {
    const [sourceBucket = '', ...rest] = decodeURIComponent(source).replace(/^\//, '').split('/');
    const object = findBucket(sourceBucket).objects.get(rest.join('/'));
    if (!object) throw noSuchKey();
    const copy = { ...object, modifiedAt: new Date() };
    bucket.objects.set(key, copy);
    return (
      `<CopyObjectResult><ETag>${escapeXml(copy.etag)}</ETag>` +
      `<LastModified>${copy.modifiedAt.toISOString()}</LastModified></CopyObjectResult>`
    );
  }

  function record(): Record<string, S3Record> {
    return Object.fromEntries(
      [...buckets.values()]
        .sort((a, b) => compare(a.name, b.name))
        .map(({ name, objects, uploads }) => [
          name,
          {
            objects: Object.fromEntries(
              [...objects]
                .sort(([a], [b]) => compare(a, b))
                .map(([key, { sizeBytes, etag }]) => [key, { sizeBytes, etag }]),
            ),
            unfinishedUploads: [...uploads.values()].map(({ key }) => key).sort(),
          },
        ]),
    );
  }

  return { server, record };
}

// ── Multipart uploads ────────────────────────────────────────────────────────────────────────────────────────────────

function startUpload(bucket: Bucket, key: string, request: IncomingMessage): Upload {
  const upload: Upload = {
    id: randomUUID(),
    key,
    contentType: request.headers['content-type'] ?? 'application/octet-stream',
    metadata: metadataOf(request),
    startedAt: new Date(),
    parts: new Map(),
  };
  bucket.uploads.set(upload.id, upload);
  return upload;
}

function findUpload(bucket: Bucket, id: string): Upload {
  const upload = bucket.uploads.get(id);
  if (!upload) throw new S3Error(404, 'NoSuchUpload', `The upload ${id} does not exist.`);
  return upload;
}

function completeUpload(bucket: Bucket, upload: Upload, list: string): StoredObject {
  const numbers = [...list.matchAll(/<PartNumber>\s*(\d+)\s*<\/PartNumber>/g)].map(([, number]) => Number(number));
  if (numbers.length === 0) throw new S3Error(400, 'MalformedXML', 'The list of parts is empty.');
  const parts = numbers.map((number) => {
    const part = upload.parts.get(number);
    if (!part) throw new S3Error(400, 'InvalidPart', `Part ${number} was not uploaded.`);
    return part;
  });
  const digests = parts.map(({ etag }) => Buffer.from(etag.replaceAll('"', ''), 'hex'));
  const digest = createHash('md5').update(Buffer.concat(digests)).digest('hex');
  const object: StoredObject = {
    chunks: parts.flatMap(({ chunks }) => chunks),
    sizeBytes: parts.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
    etag: `"${digest}-${parts.length}"`,
    contentType: upload.contentType,
    modifiedAt: new Date(),
    metadata: upload.metadata,
  };
  bucket.objects.set(upload.key, object);
  bucket.uploads.delete(upload.id);
  return object;
}

// ── Lists ────────────────────────────────────────────────────────────────────────────────────────────────────────────

function listBuckets(buckets: Map<string, Bucket>): string {
  const items = [...buckets.keys()].sort().map((name) => `<Bucket><Name>${escapeXml(name)}</Name></Bucket>`);
  return `<ListAllMyBucketsResult><Buckets>${items.join('')}</Buckets></ListAllMyBucketsResult>`;
}

function listUploads(bucket: Bucket, prefix: string): string {
  const listed = [...bucket.uploads.values()].filter(({ key }) => key.startsWith(prefix));
  const items = listed.map(
    ({ id, key, startedAt }) =>
      `<Upload><Key>${escapeXml(key)}</Key><UploadId>${id}</UploadId><Initiated>${startedAt.toISOString()}</Initiated></Upload>`,
  );
  return (
    `<ListMultipartUploadsResult><Bucket>${escapeXml(bucket.name)}</Bucket><IsTruncated>false</IsTruncated>` +
    `${items.join('')}</ListMultipartUploadsResult>`
  );
}

/** ListObjectsV2: the continuation token is the last key of the page before. */
function listObjects(bucket: Bucket, query: URLSearchParams): string {
  const prefix = query.get('prefix') ?? '';
  const delimiter = query.get('delimiter') ?? '';
  const after = query.get('continuation-token') ?? query.get('start-after') ?? '';
  const maxKeys = Math.min(Number(query.get('max-keys') ?? 1000), 1000);
  const items: string[] = [];
  const prefixes = new Set<string>();
  let last = '';
  let truncated = false;
  for (const [key, object] of [...bucket.objects].sort(([a], [b]) => compare(a, b))) {
    if (!key.startsWith(prefix) || key <= after) continue;
    const end = delimiter === '' ? -1 : key.indexOf(delimiter, prefix.length);
    const common = end < 0 ? undefined : key.slice(0, end + delimiter.length);
    if (common !== undefined && (prefixes.has(common) || after.startsWith(common))) {
      last = key;
      continue;
    }
    if (items.length + prefixes.size >= maxKeys) {
      truncated = true;
      break;
    }
    last = key;
    if (common !== undefined) prefixes.add(common);
    else
      items.push(
        `<Contents><Key>${escapeXml(key)}</Key><LastModified>${object.modifiedAt.toISOString()}</LastModified>` +
          `<ETag>${escapeXml(object.etag)}</ETag><Size>${object.sizeBytes}</Size></Contents>`,
      );
  }
  const common = [...prefixes].map((name) => `<CommonPrefixes><Prefix>${escapeXml(name)}</Prefix></CommonPrefixes>`);
  return (
    `<ListBucketResult><Name>${escapeXml(bucket.name)}</Name><Prefix>${escapeXml(prefix)}</Prefix>` +
    `<KeyCount>${items.length + prefixes.size}</KeyCount><MaxKeys>${maxKeys}</MaxKeys><IsTruncated>${truncated}</IsTruncated>` +
    `${truncated ? `<NextContinuationToken>${escapeXml(last)}</NextContinuationToken>` : ''}${items.join('')}${common.join('')}` +
    '</ListBucketResult>'
  );
}

function deleteObjects(bucket: Bucket, chunks: Buffer[]): string {
  const body = Buffer.concat(chunks).toString('utf8');
  const keys = [...body.matchAll(/<Key>([^<]*)<\/Key>/g)].map(([, key]) => unescapeXml(key ?? ''));
  for (const key of keys) bucket.objects.delete(key);
  return `<DeleteResult>${keys.map((key) => `<Deleted><Key>${escapeXml(key)}</Key></Deleted>`).join('')}</DeleteResult>`;
}

// ── Requests ─────────────────────────────────────────────────────────────────────────────────────────────────────────

function authorize(request: IncomingMessage, url: URL, accessKey: string): void {
  const header = request.headers.authorization;
  const credential =
    url.searchParams.get('X-Amz-Credential') ?? header?.match(/^AWS4-HMAC-SHA256 Credential=([^,]+)/)?.[1];
  if (!credential) throw new S3Error(403, 'AccessDenied', 'The request is not signed.');
  if (credential.split('/')[0] !== accessKey)
    throw new S3Error(403, 'InvalidAccessKeyId', 'The access key does not exist.');
  const signedAt = url.searchParams.get('X-Amz-Date');
  if (signedAt === null) return;
  const iso = signedAt.replace(/^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/, '$1-$2-$3T$4:$5:$6Z');
  if (Date.parse(iso) + Number(url.searchParams.get('X-Amz-Expires')) * 1000 < Date.now())
    throw new S3Error(403, 'AccessDenied', 'Request has expired');
}

interface Body {
  chunks: Buffer[];
  sizeBytes: number;
  md5: string;
}

async function readBody(request: IncomingMessage): Promise<Body> {
  const hash = createHash('md5');
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  const take = (chunk: Buffer) => {
    chunks.push(chunk);
    sizeBytes += chunk.length;
    hash.update(chunk);
  };
  const encoded =
    request.headers['content-encoding']?.includes('aws-chunked') ||
    String(request.headers['x-amz-content-sha256'] ?? '').startsWith('STREAMING-');
  const accept = encoded ? createChunkedDecoder(take) : take;
  for await (const chunk of request) accept(chunk as Buffer);
  return { chunks, sizeBytes, md5: hash.digest('hex') };
}

/**
 * The `aws-chunked` content encoding: `<hex size>[;chunk-signature=…]\r\n<data>\r\n` until size 0, then trailing headers
 * (checksums, signatures), which are not checked here.
 */
function createChunkedDecoder(take: (chunk: Buffer) => void): (chunk: Buffer) => void {
  let state: 'size' | 'data' | 'trailer' = 'size';
  let line = Buffer.alloc(0);
  let leftBytes = 0;
  /** The line end that follows each chunk's data. */
  let lineEndBytes = 0;
  return (chunk) => {
    let rest = chunk;
    while (rest.length > 0) {
      if (state === 'trailer') return;
      if (state === 'data') {
        const data = rest.subarray(0, leftBytes);
        if (data.length > 0) take(data);
        leftBytes -= data.length;
        rest = rest.subarray(data.length);
        if (leftBytes > 0) continue;
        const skipped = Math.min(lineEndBytes, rest.length);
        lineEndBytes -= skipped;
        rest = rest.subarray(skipped);
        if (lineEndBytes === 0) state = 'size';
        continue;
      }
      const end = rest.indexOf(10);
      line = Buffer.concat([line, end < 0 ? rest : rest.subarray(0, end)]);
      if (end < 0) return;
      rest = rest.subarray(end + 1);
      leftBytes = Number.parseInt(line.toString('latin1'), 16);
      if (Number.isNaN(leftBytes)) throw new S3Error(400, 'IncompleteBody', 'A chunk size is missing.');
      line = Buffer.alloc(0);
      lineEndBytes = 2;
      state = leftBytes === 0 ? 'trailer' : 'data';
    }
  };
}

function storedObject({ chunks, sizeBytes, md5 }: Body, request: IncomingMessage): StoredObject {
  return {
    chunks,
    sizeBytes,
    etag: `"${md5}"`,
    contentType: request.headers['content-type'] ?? 'application/octet-stream',
    modifiedAt: new Date(),
    metadata: metadataOf(request),
  };
}

function metadataOf(request: IncomingMessage): Record<string, string> {
  return Object.fromEntries(
    Object.entries(request.headers).flatMap(([name, value]) =>
      name.startsWith('x-amz-meta-') && typeof value === 'string' ? [[name, value]] : [],
    ),
  );
}

// ── Answers ──────────────────────────────────────────────────────────────────────────────────────────────────────────

type Send = (response: ServerResponse) => void;

function empty(status: number, headers: Record<string, string> = {}): Send {
  return (response) => {
    response.writeHead(status, { ...headers, ...(status === 204 ? {} : { 'content-length': 0 }) });
    response.end();
  };
}

function xml(body: string): Send {
  const text = `<?xml version="1.0" encoding="UTF-8"?>\n${body}`;
  return (response) => {
    response.writeHead(200, { 'content-type': 'application/xml', 'content-length': Buffer.byteLength(text) });
    response.end(text);
  };
}

function objectAnswer(object: StoredObject, range: string | undefined, headOnly: boolean): Send {
  const { sizeBytes } = object;
  const [first, last] = rangeOf(range, sizeBytes);
  const partial = range !== undefined && (first > 0 || last < sizeBytes - 1);
  return (response) => {
    response.writeHead(partial ? 206 : 200, {
      ...object.metadata,
      'content-type': object.contentType,
      'content-length': last - first + 1,
      'accept-ranges': 'bytes',
      'last-modified': object.modifiedAt.toUTCString(),
      etag: object.etag,
      ...(partial ? { 'content-range': `bytes ${first}-${last}/${sizeBytes}` } : {}),
    });
    if (headOnly) return void response.end();
    sendChunks(response, slices(object.chunks, first, last));
  };
}

function sendChunks(response: ServerResponse, chunks: Iterator<Buffer>): void {
  for (let next = chunks.next(); !next.done; next = chunks.next()) {
    if (response.destroyed) return;
    if (!response.write(next.value)) return void response.once('drain', () => sendChunks(response, chunks));
  }
  response.end();
}

function* slices(chunks: Buffer[], first: number, last: number): Generator<Buffer> {
  let at = 0;
  for (const chunk of chunks) {
    const from = Math.max(first - at, 0);
    const to = Math.min(last + 1 - at, chunk.length);
    if (from < to) yield chunk.subarray(from, to);
    at += chunk.length;
    if (at > last) return;
  }
}

/** First and last byte, inclusive (RFC 9110 section 14.1.2). */
function rangeOf(range: string | undefined, sizeBytes: number): [number, number] {
  const [, from = '', to = ''] = range?.match(/^bytes=(\d*)-(\d*)$/) ?? [];
  if (from === '' && to === '') return [0, sizeBytes - 1];
  const first = from === '' ? Math.max(sizeBytes - Number(to), 0) : Number(from);
  const last = from === '' || to === '' ? sizeBytes - 1 : Math.min(Number(to), sizeBytes - 1);
  if (first > last) throw new S3Error(416, 'InvalidRange', `The range ${range} does not fit ${sizeBytes} bytes.`);
  return [first, last];
}

function answerError(request: IncomingMessage, response: ServerResponse, error: unknown): void {
  const known =
    error instanceof S3Error
      ? error
      : error instanceof Problem
        ? new S3Error(503, 'ServiceUnavailable', error.message)
        : new S3Error(500, 'InternalError', error instanceof Error ? error.message : String(error));
  if (response.headersSent || response.destroyed) return void response.socket?.destroy();
  // An unread body would be taken for the next request on this connection.
  if (!request.complete) response.setHeader('connection', 'close');
  if (request.method === 'HEAD') {
    response.writeHead(known.status);
    return void response.end();
  }
  const text =
    `<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>${known.code}</Code>` +
    `<Message>${escapeXml(known.message)}</Message></Error>`;
  response.writeHead(known.status, { 'content-type': 'application/xml', 'content-length': Buffer.byteLength(text) });
  response.end(text);
}

const entities: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };

function escapeXml(text: string): string {
  return text.replace(/[&<>"]/g, (character) => entities[character] ?? character);
}

function unescapeXml(text: string): string {
  return text.replace(/&(amp|lt|gt|quot|apos);/g, (entity) => {
    if (entity === '&apos;') return "'";
    return Object.keys(entities).find((character) => entities[character] === entity) ?? entity;
  });
}
