import { createHash } from 'node:crypto';
import http from 'node:http';
import https from 'node:https';
import { pipeline } from 'node:stream/promises';
import type * as protocol from '../../../host-agent/protocol/images.ts';
import type { Tasks } from '../../../host-agent/protocol.ts';
import { contentOf, foreign, type Image, type Pool } from '../ceph.ts';
import { refuse } from '../problem.ts';
import { type CallHandlers, type Host, nothing, type Run, type TaskHandlers } from './host.ts';
import { openImage, openPool, openPoolIfAny } from './storage.ts';

const mib = 2 ** 20;
const gib = 2 ** 30;
/** Where `rbd.ensureClone` can grow from: virtual sizes are multiples of a sector. */
const sectorBytes = 512;

export const calls: CallHandlers<typeof protocol.calls> = {
  'rbd.ensureImage'(host, { sizeGib, tags, ...address }) {
    host.world.ceph.ensureImage(openPool(host, address), address.image, tags, sizeGib * gib, () => ({
      content: 'zeroes',
      parent: null,
    }));
    return nothing;
  },
  'rbd.ensureClone'(host, { from, sizeGib, tags, ...address }) {
    const source = { ...from, pool: openPool(host, { ...address, pool: from.pool }) };
    host.world.ceph.ensureClone(openPool(host, address), address.image, tags, source, sizeGib);
    return nothing;
  },
  'rbd.ensureImageAbsent'(host, { onlyOperation, ...address }) {
    const pool = openPoolIfAny(host, address);
    if (pool) host.world.ceph.ensureImageAbsent(pool, address.image, onlyOperation);
    return nothing;
  },
  'rbd.ensureSize'(host, { sizeGib, allowShrink, ...address }) {
    host.world.ceph.ensureSize(openImage(host, address), sizeGib, allowShrink);
    return nothing;
  },
  'rbd.ensureSnapshot'(host, { snapshot, tags, ...address }) {
    host.world.ceph.ensureSnapshot(openImage(host, address), snapshot, tags);
    return nothing;
  },
  'rbd.ensureSnapshotAbsent'(host, { snapshot, ...address }) {
    const pool = openPoolIfAny(host, address);
    if (pool) host.world.ceph.ensureSnapshotAbsent(pool, address.image, snapshot);
    return nothing;
  },
  'rbd.rollBack'(host, { snapshot, ...address }) {
    host.world.ceph.rollBack(openImage(host, address), snapshot);
    return nothing;
  },
  'rbd.ensureTrashed'(host, address) {
    host.world.ceph.ensureTrashed(openPool(host, address), address.image);
    return nothing;
  },
  'rbd.ensureRestored'(host, address) {
    host.world.ceph.ensureRestored(openPool(host, address), address.image);
    return nothing;
  },
  'rbd.ensureExpunged'(host, address) {
    const pool = openPoolIfAny(host, address);
    if (pool) host.world.ceph.ensureExpunged(pool, address.image);
    return nothing;
  },
  'rbd.watchers'(host, address) {
    const image = openPool(host, address).images.get(address.image);
    return { addresses: [...(image?.watchers.values() ?? [])].sort() };
  },
  'rbd.inventory': (host, address) => host.world.ceph.inventory(openPool(host, address)),

  'seed.ensure'(host, { tags, instanceId, hostname, sshKeys, userData, userDataEncoding, ...address }) {
    const content = contentOf('seed', instanceId, hostname, ...sshKeys, userData ?? '', userDataEncoding);
    const pool = openPool(host, address);
    const image = host.world.ceph.ensureImage(pool, address.image, tags, mib, () => ({
      content,
      parent: null,
    }));
    image.content = content;
    return nothing;
  },
};

export const tasks: TaskHandlers<typeof protocol.tasks> = {
  'image.import': (host, { storageClusterId, pool, image, ...source }, run) =>
    importInto(host, openPool(host, { storageClusterId, pool }), image, source, run),
};

/** Fetches it, and makes an image of that name that clones are made of; where there is one, nothing happens. */
export async function importInto(
  { world: { ceph } }: Host,
  pool: Pool,
  name: string,
  { url, format, sha256, tags }: Pick<Tasks['image.import']['input'], 'url' | 'format' | 'sha256' | 'tags'>,
  { signal, progress }: Run,
): Promise<{ virtualSizeBytes: number }> {
  const imported = (image: Image | undefined) => {
    if (!image) return undefined;
    if (image.tags.id !== tags.id) throw foreign('image', `${pool.name}/${image.name}`, image.tags);
    return { virtualSizeBytes: image.sizeBytes };
  };
  const already = imported(pool.images.get(name));
  if (already) return already;

  const image = ceph.beginPart(pool, name, tags);
  try {
    const fetched = await fetchImage(url, signal, progress);
    if (fetched.sha256 !== sha256.toLowerCase())
      throw refuse('PRECONDITION_FAILED', `The image's sha256 is ${fetched.sha256}, expected ${sha256}`);
    const virtualSizeBytes = format === 'raw' ? fetched.sizeBytes : readQcow2Header(fetched.head);
    image.sizeBytes = Math.ceil(virtualSizeBytes / sectorBytes) * sectorBytes;
    image.content = `sha256:${sha256.toLowerCase()}`;
    const meanwhile = imported(pool.images.get(name));
    if (meanwhile) {
      ceph.removeImage(image);
      return meanwhile;
    }
    ceph.finishPart(image, name);
    ceph.ensureSnapshot(image, 'base', tags).protected = true;
    return { virtualSizeBytes: image.sizeBytes };
  } catch (error) {
    if (pool.parts.has(image)) ceph.removeImage(image);
    throw error;
  }
}

interface Fetched {
  head: Buffer;
  sizeBytes: number;
  sha256: string;
}

/** Reads it to the end, keeping only the first bytes: what the header of an image format needs. */
async function fetchImage(url: string, signal: AbortSignal, progress: (percent: number) => void): Promise<Fetched> {
  const response = await new Promise<http.IncomingMessage>((resolve, reject) => {
    const client = url.startsWith('https:') ? https : http;
    client.get(url, { signal }, resolve).on('error', reject);
  }).catch((error: Error) => {
    throw refuse('BACKEND_UNAVAILABLE', `Fetching the image failed: ${error.message}`, true);
  });
  const status = response.statusCode ?? 0;
  if (status !== 200) {
    response.resume();
    if (status >= 500) throw refuse('BACKEND_UNAVAILABLE', `Fetching the image was answered ${status}`, true);
    throw refuse('PRECONDITION_FAILED', `Fetching the image was answered ${status}`);
  }
  const expectedBytes = Number(response.headers['content-length'] ?? 0);
  const hash = createHash('sha256');
  let head = Buffer.alloc(0);
  let sizeBytes = 0;
  await pipeline(response, async (chunks: AsyncIterable<Buffer>) => {
    for await (const chunk of chunks) {
      if (head.length < 512) head = Buffer.concat([head, chunk]).subarray(0, 512);
      hash.update(chunk);
      sizeBytes += chunk.length;
      if (expectedBytes > 0) progress(Math.min(99, Math.floor((sizeBytes / expectedBytes) * 90)));
    }
  }).catch((error: Error) => {
    throw refuse('BACKEND_UNAVAILABLE', `Fetching the image broke off: ${error.message}`, true);
  });
  signal.throwIfAborted();
  return { head, sizeBytes, sha256: hash.digest('hex') };
}

/**
 * The virtual size in bytes from a qcow2 header (QEMU, docs/interop/qcow2.txt). Refuses what would make QEMU open a second
 * file of the uploader's choice: a backing file, an external data file.
 */
export function readQcow2Header(head: Buffer): number {
  if (head.length < 72 || head.readUInt32BE(0) !== 0x514649fb)
    throw refuse('PRECONDITION_FAILED', 'The image is not qcow2: its magic number is missing');
  const version = head.readUInt32BE(4);
  if (version !== 2 && version !== 3) throw refuse('PRECONDITION_FAILED', `qcow2 version ${version} is unknown`);
  if (head.readBigUInt64BE(8) !== 0n) throw refuse('PRECONDITION_FAILED', 'The image names a backing file');
  const externalDataFile = 4n;
  if (version === 3 && (head.readBigUInt64BE(72) & externalDataFile) !== 0n)
    throw refuse('PRECONDITION_FAILED', 'The image names an external data file');
  const virtualSizeBytes = Number(head.readBigUInt64BE(24));
  if (virtualSizeBytes === 0 || virtualSizeBytes > 2 ** 14 * gib)
    throw refuse('PRECONDITION_FAILED', `A virtual size of ${virtualSizeBytes} bytes is out of bounds`);
  return virtualSizeBytes;
}
