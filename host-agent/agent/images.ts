import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, statfs, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { Problem } from '../problem.ts';
import type { SeedData } from '../protocol/fields.ts';
import type { Calls, ImageAddress, Tags, Tasks } from '../protocol.ts';
import { runProgram } from './command.ts';
import { PATHS } from './paths.ts';
import type { Storage } from './storage.ts';
import type { TaskContext } from './tasks.ts';

/** Share of an import's progress: fetching, then writing into the pool. */
const FETCHED = 60;
/** An image from outside may be made to eat memory or time; reading its header needs little of either. */
const INFO_LIMITS = ['--as=1073741824', '--cpu=30'];

interface ImageInfo {
  format: string;
  'virtual-size': number;
  'backing-filename'?: string;
  'format-specific'?: { data?: Record<string, unknown> };
}

/** @throws Problem PRECONDITION_FAILED for what could make QEMU read another file of this host. */
export function checkImageInfo(info: ImageInfo, format: string): void {
  const refuse = (why: string) => {
    throw new Problem('PRECONDITION_FAILED', `the image ${why}`);
  };
  if (info.format !== format) refuse(`is ${info.format}, not ${format}`);
  if (info['backing-filename'] !== undefined) refuse('refers to a backing file');
  if (info['format-specific']?.data?.['data-file'] !== undefined) refuse('keeps its data in another file');
  if (!(info['virtual-size'] > 0)) refuse('is empty');
}

export async function importImage(
  storage: Storage,
  input: Tasks['image.import']['input'],
  task: TaskContext,
): Promise<Tasks['image.import']['result']> {
  const { format, tags, storageClusterId, pool, image } = input;
  const address: ImageAddress = { storageClusterId, pool, image };
  const there = await storage.onPool<{ found: boolean; sizeBytes: number; tags: Partial<Tags> }>(
    'image_status',
    address,
  );
  if (there.found) {
    if (there.tags.id === tags.id) return { virtualSizeBytes: there.sizeBytes };
    throw new Problem('NAME_IN_USE', `image ${image} belongs to ${there.tags.id ?? 'something that is not Belay'}`);
  }
  const directory = join(PATHS.state, 'imports');
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const workspace = await mkdtemp(join(directory, 'import-'));
  try {
    const virtualSizeBytes = await (format === 'raw' ? importRaw : importFile)(storage, input, task, workspace);
    await storage.onPool('finish_part', address, { tags, snapshot: 'base' });
    return { virtualSizeBytes };
  } catch (error) {
    await storage.onPool('discard_part', address, { operation: tags.operation }).catch(() => {});
    throw error;
  } finally {
    await rm(workspace, { recursive: true, force: true });
  }
}

/** The format is found, not told: what is called raw may be another one that a later reader would follow. */
async function inspectFile(file: string, format: string, task: TaskContext): Promise<number> {
  const argv = [...INFO_LIMITS, 'qemu-img', 'info', '--output=json', file];
  const info = JSON.parse(await runProgram('prlimit', argv, { signal: task.signal })) as ImageInfo;
  checkImageInfo(info, format);
  return info['virtual-size'];
}

type Import = Tasks['image.import']['input'];

/** Bytes that wait on this host's disk for their conversion, of all imports under way. */
let waitingBytes = 0;
/** What an import never takes of the disk that the host itself lives on. */
const HOST_RESERVE_BYTES = 2 ** 30;

/** A file in which clusters lie in any order is kept on this host's disk until it is converted. Answers the virtual size. */
async function importFile(storage: Storage, input: Import, task: TaskContext, workspace: string): Promise<number> {
  const { url, format, sha256, tags, storageClusterId, pool, image } = input;
  const address: ImageAddress = { storageClusterId, pool, image };
  const file = join(workspace, 'image');
  let claimedBytes = 0;
  try {
    const { total, chunks } = await fetchImage(url, sha256, task, FETCHED);
    const { bavail, bsize } = await statfs(workspace);
    const freeBytes = bavail * bsize - HOST_RESERVE_BYTES - waitingBytes;
    if (total > freeBytes)
      throw new Problem(
        'NO_CAPACITY',
        `the image has ${total} bytes, and this host has room for ${Math.max(0, freeBytes)} while it is converted; raw images need none`,
      );
    claimedBytes = total;
    waitingBytes += claimedBytes;
    await pipeline(chunks, createWriteStream(file), { signal: task.signal });
    const sizeBytes = await inspectFile(file, format, task);
    const { part } = await storage.onPool<{ part: string }>('begin_part', address, {
      operation: tags.operation,
      sizeBytes,
    });
    await convert(storage, { ...address, image: part }, file, format, task);
    return sizeBytes;
  } finally {
    waitingBytes -= claimedBytes;
  }
}

/** As Ceph's own objects: each is written once, and one of zeros not at all. */
const PART_BYTES = 4 * 2 ** 20;

/** Gathers chunks into parts of equal size; the last may be shorter. */
export async function* inParts(chunks: AsyncIterable<Buffer>, partBytes: number): AsyncGenerator<Buffer> {
  let gathered: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of chunks) {
    for (let rest = chunk; rest.length > 0; ) {
      const taken = rest.subarray(0, partBytes - bytes);
      gathered.push(taken);
      bytes += taken.length;
      rest = rest.subarray(taken.length);
      if (bytes < partBytes) continue;
      yield Buffer.concat(gathered);
      gathered = [];
      bytes = 0;
    }
  }
  if (bytes > 0) yield Buffer.concat(gathered);
}

const zeros = Buffer.alloc(PART_BYTES);

/** A raw disk goes into the pool as it comes: up to terabytes, of which this host's disk sees the first part only. */
async function importRaw(storage: Storage, input: Import, task: TaskContext, workspace: string): Promise<number> {
  const { url, format, sha256, tags, storageClusterId, pool, image } = input;
  const address: ImageAddress = { storageClusterId, pool, image };
  const { operation } = tags;
  const { total, chunks } = await fetchImage(url, sha256, task, 100);
  let offset = 0;
  for await (const part of inParts(chunks, PART_BYTES)) {
    task.signal.throwIfAborted();
    if (offset === 0) {
      const head = join(workspace, 'head');
      await writeFile(head, part);
      await inspectFile(head, format, task);
      await storage.onPool('begin_part', address, { operation, sizeBytes: total });
    }
    if (!part.equals(zeros.subarray(0, part.length)))
      await storage.onPool('write_part', address, { operation, offset, content: part.toString('base64') });
    offset += part.length;
  }
  return total;
}

/**
 * The bytes behind a URL, and how many there are. The iteration fails when they are not as many, or not those of the checksum.
 * `share` is how much of the task's progress they are.
 */
async function fetchImage(
  url: string,
  sha256: string,
  task: TaskContext,
  share: number,
): Promise<{ total: number; chunks: AsyncIterable<Buffer> }> {
  const { host } = new URL(url);
  const unreachable = (why: string) => new Problem('BACKEND_UNAVAILABLE', `${host}: ${why}`, true);
  const response = await fetch(url, { signal: task.signal }).catch((error: Error) => {
    task.signal.throwIfAborted();
    throw unreachable(error.cause instanceof Error ? error.cause.message : error.message);
  });
  const { body } = response;
  if (!response.ok || !body) {
    const gone = response.status >= 400 && response.status < 500 && response.status !== 408 && response.status !== 429;
    if (gone) throw new Problem('PRECONDITION_FAILED', `${host} answered ${response.status} for the image`);
    throw unreachable(`answered ${response.status}`);
  }
  const total = Number(response.headers.get('content-length') ?? 0);
  if (!(total > 0)) throw unreachable('does not say how long the image is');
  async function* checked(stream: import('node:stream/web').ReadableStream): AsyncGenerator<Buffer> {
    const hash = createHash('sha256');
    let received = 0;
    try {
      for await (const chunk of Readable.fromWeb(stream)) {
        hash.update(chunk as Buffer);
        received += (chunk as Buffer).length;
        task.progress((received / total) * share);
        yield chunk as Buffer;
      }
    } catch (error) {
      task.signal.throwIfAborted();
      throw unreachable((error as Error).message);
    }
    if (received !== total) throw unreachable(`sent ${received} of ${total} bytes`);
    const found = hash.digest('hex');
    if (found !== sha256)
      throw new Problem('PRECONDITION_FAILED', `the fetched image has the SHA-256 ${found}, not ${sha256}`);
  }
  return { total, chunks: checked(body as import('node:stream/web').ReadableStream) };
}

/** qemu-img writes straight into the pool, and leaves out what is zero. */
async function convert(
  storage: Storage,
  part: ImageAddress,
  file: string,
  format: string,
  task: TaskContext,
): Promise<void> {
  const { user } = await storage.access(part.storageClusterId);
  const { configuration } = storage.configurationFiles(part.storageClusterId);
  const target = `rbd:${part.pool}/${part.image}:id=${user}:conf=${configuration}`;
  await runConvert(['-n', '--target-is-zero', '-W', '-f', format, '-O', 'raw', file, target], task);
}

/** Fetches an image into a file, looks at it as `image.import` does, and makes a qcow2 image of it. Answers the virtual size. */
export async function importInto(
  { url, sha256, format }: Pick<Import, 'url' | 'sha256' | 'format'>,
  file: string,
  target: string,
  task: TaskContext,
): Promise<number> {
  const { chunks } = await fetchImage(url, sha256, task, FETCHED);
  await pipeline(chunks, createWriteStream(file, { mode: 0o600 }), { signal: task.signal });
  const sizeBytes = await inspectFile(file, format, task);
  await runConvert(['-f', format, '-O', 'qcow2', file, target], task);
  return sizeBytes;
}

async function runConvert(how: string[], task: TaskContext): Promise<void> {
  const argv = ['convert', '-p', ...how];
  await new Promise<void>((resolve, reject) => {
    const child = spawn('qemu-img', argv, {
      stdio: ['ignore', 'pipe', 'pipe'],
      signal: task.signal,
      killSignal: 'SIGKILL',
    });
    let lastWords = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      const percent = [...text.matchAll(/\((\d+(?:\.\d+)?)\/100%\)/g)].at(-1)?.[1];
      if (percent !== undefined) task.progress(FETCHED + (Number(percent) * (100 - FETCHED)) / 100);
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      lastWords = (lastWords + text).slice(-500);
    });
    child.on('error', reject);
    child.on('close', (code) => {
      if (code === 0) resolve();
      else
        reject(
          new Problem('BACKEND_UNAVAILABLE', `qemu-img convert failed: ${lastWords.trim() || `exit ${code}`}`, true),
        );
    });
  });
}

type SeedInput = Calls['seed.ensure']['input'];

/** As it stands when no reader could take it for anything but text; else in JSON's quotes, which are YAML's too. */
function yamlText(text: string): string {
  const isPlain = /^[a-z][a-z0-9.-]*$/.test(text) && !/^(y|n|yes|no|on|off|true|false|null)$/.test(text);
  return isPlain ? text : JSON.stringify(text);
}

/** The two files of a NoCloud seed (cloud-init's documentation, "NoCloud"). */
export function seedFiles(input: SeedData): { 'meta-data': string; 'user-data': string | Buffer } {
  const keys = input.sshKeys.map((key) => `  - ${JSON.stringify(key)}\n`).join('');
  return {
    'meta-data': `instance-id: ${yamlText(input.instanceId)}\nlocal-hostname: ${yamlText(input.hostname)}\n${
      keys === '' ? '' : `public-keys:\n${keys}`
    }`,
    'user-data':
      input.userData !== null && input.userDataEncoding === 'base64'
        ? Buffer.from(input.userData, 'base64')
        : (input.userData ?? '#cloud-config\n{}\n'),
  };
}

export async function ensureSeed(storage: Storage, input: SeedInput): Promise<void> {
  const { storageClusterId, pool, image, tags } = input;
  const digest = createHash('sha256')
    .update(JSON.stringify(seedFiles(input)))
    .digest('hex');
  await makeSeed(input, async (iso) => {
    const content = iso.toString('base64');
    await storage.onPool('ensure_content', { storageClusterId, pool, image }, { content, digest, tags });
  });
}

/** The seed as ISO 9660, label `cidata`, handed to whoever keeps it. */
export async function makeSeed(input: SeedData, keep: (iso: Buffer) => Promise<void>): Promise<void> {
  const files = seedFiles(input);
  await mkdir(PATHS.run, { recursive: true });
  // /run is memory: user data is the tenant's secret and stays off the disk.
  const workspace = await mkdtemp(join(PATHS.run, 'seed-'));
  try {
    for (const [name, content] of Object.entries(files))
      await writeFile(join(workspace, name), content, { mode: 0o600 });
    const iso = join(workspace, 'seed.iso');
    const sources = Object.keys(files).map((name) => join(workspace, name));
    await runProgram('genisoimage', ['-quiet', '-V', 'cidata', '-r', '-J', '-o', iso, ...sources]);
    await keep(await readFile(iso));
  } finally {
    await rm(workspace, { recursive: true, force: true });
  }
}
