/** The long work of a simulated host. A task has its caller's id: whoever asks again attaches to it. */
import { createHash } from 'node:crypto';
import http from 'node:http';
import https from 'node:https';
import { pipeline } from 'node:stream/promises';
import type { Task, TaskName, Tasks } from '../../host-agent/protocol.ts';
import { foreign, type Image } from './ceph.ts';
import { pause } from './faults.ts';
import {
  boot,
  checkRunnable,
  type Domain,
  facts,
  findDomain,
  type Host,
  halt,
  isActive,
  newDomain,
  occupy,
  openPool,
  publish,
  vacate,
} from './host.ts';
import { problemOf, refuse } from './problem.ts';

/** Ended tasks a host remembers, so that a late question still finds its answer. */
const rememberedTasks = 64;
const gib = 2 ** 30;
/** Where `rbd.ensureClone` can grow from: virtual sizes are multiples of a sector. */
const sectorBytes = 512;

export interface LiveTask {
  task: Task;
  abort: AbortController;
  /** Resolved at every change of state or progress. */
  watchers: Set<() => void>;
}

/** A guest on its way to another host. */
export interface Migration {
  abort: AbortController;
  watchers: Set<(percent: number) => void>;
  ended: Promise<Tasks['domain.migrate']['result']>;
}

interface Run {
  signal: AbortSignal;
  progress(percent: number): void;
}

type TaskHandlers = {
  [Name in TaskName]: (host: Host, input: Tasks[Name]['input'], run: Run) => Promise<Tasks[Name]['result']>;
};

/** Starts the task or attaches to the running or succeeded one of that id. `finished` runs after the work, before the task ends: a place for faults. */
export function startTask(
  host: Host,
  id: string,
  name: TaskName,
  input: unknown,
  finished: (signal: AbortSignal) => Promise<unknown> | undefined,
): LiveTask {
  const known = host.tasks.get(id);
  if (known && known.task.name !== name)
    throw refuse('INVALID_ARGUMENT', `Task ${id} is a ${known.task.name}, not a ${name}`);
  // One that failed or was cancelled is tried again; one that succeeded is done.
  if (known?.task.state === 'running' || known?.task.state === 'succeeded') return known;
  const live: LiveTask = {
    task: { id, name, state: 'running', progress: 0 },
    abort: new AbortController(),
    watchers: new Set(),
  };
  host.tasks.set(id, live);
  forgetOldest(host);
  const { signal } = live.abort;
  const run: Run = {
    signal,
    progress(percent) {
      if (percent === live.task.progress) return;
      live.task.progress = percent;
      wake(live);
    },
  };
  const work = (tasks[name] as (host: Host, input: unknown, run: Run) => Promise<Tasks[TaskName]['result']>)(
    host,
    input,
    run,
  );
  work
    .then(async (result) => {
      await finished(signal);
      Object.assign(live.task, { state: 'succeeded', progress: 100, result });
    })
    .catch((error: unknown) => {
      if (signal.aborted) live.task.state = 'cancelled';
      else Object.assign(live.task, { state: 'failed', problem: problemOf(error) });
    })
    .finally(() => wake(live));
  return live;
}

function wake(live: LiveTask): void {
  for (const watcher of live.watchers) watcher();
  live.watchers.clear();
}

function forgetOldest(host: Host): void {
  if (host.tasks.size <= rememberedTasks) return;
  for (const [id, { task }] of host.tasks) {
    if (task.state !== 'running') host.tasks.delete(id);
    if (host.tasks.size <= rememberedTasks) return;
  }
}

/** The next change of the task, its end, or the end of the wait. */
export function taskChange(live: LiveTask, waitMs: number): Promise<void> {
  if (live.task.state !== 'running' || waitMs <= 0) return Promise.resolve();
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      live.watchers.delete(done);
      resolve();
    };
    const timer = setTimeout(done, waitMs);
    live.watchers.add(done);
  });
}

export async function cancelTask(live: LiveTask): Promise<void> {
  live.abort.abort();
  while (live.task.state === 'running') await taskChange(live, 1_000);
}

export const tasks: TaskHandlers = {
  async 'host.probe'(host) {
    host.kvm = true;
    return facts(host);
  },

  async 'domain.shutDown'(host, { id, timeoutSeconds }, { signal }) {
    if (!host.domains.has(id)) return {};
    const domain = findDomain(host, id);
    if (!isActive(domain)) return {};
    const { shutDownMs } = host.world.settings;
    await pause(Math.min(shutDownMs, timeoutSeconds * 1000), signal);
    signal.throwIfAborted();
    if (shutDownMs > timeoutSeconds * 1000)
      throw refuse('TIMEOUT', `Domain ${id} did not shut down in ${timeoutSeconds} s`);
    if (isActive(domain)) halt(host, domain, 'off', 'shutdown');
    return {};
  },

  async 'domain.reboot'(host, { id, timeoutSeconds }, { signal }) {
    const domain = findDomain(host, id);
    if (!isActive(domain)) throw refuse('INVALID_STATE', `Domain ${id} is ${domain.state}`);
    const { shutDownMs } = host.world.settings;
    await pause(Math.min(shutDownMs, timeoutSeconds * 1000), signal);
    signal.throwIfAborted();
    if (shutDownMs > timeoutSeconds * 1000)
      throw refuse('TIMEOUT', `Domain ${id} did not reboot in ${timeoutSeconds} s`);
    if (isActive(domain)) boot(host, domain);
    return {};
  },

  async 'image.import'(host, { url, format, sha256, tags, ...address }, { signal, progress }) {
    const { ceph } = host.world;
    const pool = openPool(host, address);
    const imported = (image: Image | undefined) => {
      if (!image) return undefined;
      if (image.tags.id !== tags.id) throw foreign('image', `${pool.name}/${image.name}`, image.tags);
      return { virtualSizeBytes: image.sizeBytes };
    };
    const already = imported(pool.images.get(address.image));
    if (already) return already;

    const image = ceph.beginPart(pool, address.image, tags);
    try {
      const fetched = await fetchImage(url, signal, progress);
      if (fetched.sha256 !== sha256.toLowerCase())
        throw refuse('PRECONDITION_FAILED', `The image's sha256 is ${fetched.sha256}, expected ${sha256}`);
      const virtualSizeBytes = format === 'raw' ? fetched.sizeBytes : readQcow2Header(fetched.head);
      image.sizeBytes = Math.ceil(virtualSizeBytes / sectorBytes) * sectorBytes;
      image.content = `sha256:${sha256.toLowerCase()}`;
      const meanwhile = imported(pool.images.get(address.image));
      if (meanwhile) {
        ceph.removeImage(image);
        return meanwhile;
      }
      ceph.finishPart(image, address.image);
      ceph.ensureSnapshot(image, 'base', tags).protected = true;
      return { virtualSizeBytes: image.sizeBytes };
    } catch (error) {
      if (pool.parts.has(image)) ceph.removeImage(image);
      throw error;
    }
  },

  async 'domain.migrate'(host, input, { signal, progress }) {
    const migration = host.migrations.get(input.id) ?? beginMigration(host, input);
    migration.watchers.add(progress);
    const abort = () => migration.abort.abort();
    signal.addEventListener('abort', abort);
    try {
      return await migration.ended;
    } finally {
      migration.watchers.delete(progress);
      signal.removeEventListener('abort', abort);
    }
  },
};

function beginMigration(host: Host, input: Tasks['domain.migrate']['input']): Migration {
  const abort = new AbortController();
  const watchers: Migration['watchers'] = new Set();
  const progress = (percent: number) => {
    for (const watcher of watchers) watcher(percent);
  };
  const ended = migrate(host, input, { signal: abort.signal, progress }).finally(() =>
    host.migrations.delete(input.id),
  );
  const migration = { abort, watchers, ended };
  host.migrations.set(input.id, migration);
  return migration;
}

async function migrate(
  host: Host,
  { id, targetAddress }: Tasks['domain.migrate']['input'],
  { signal, progress }: Run,
): Promise<Tasks['domain.migrate']['result']> {
  const target = host.world.findHostAt(targetAddress);
  if (target?.connection !== 'up') throw refuse('BACKEND_UNAVAILABLE', `No host answers at ${targetAddress}`, true);
  if (target === host) throw refuse('INVALID_ARGUMENT', `${targetAddress} is this host itself`);
  if (!host.domains.has(id) && host.world.running.get(id) === target)
    return { downtimeMs: 0, totalMs: 0, transferredBytes: 0 };
  const domain = findDomain(host, id);
  const { live } = domain;
  if (!live) throw refuse('INVALID_STATE', `Domain ${id} is ${domain.state}`);
  for (const end of [host, target])
    if (!end.hypervisor) throw refuse('PRECONDITION_FAILED', `${end.name} has no certificate for migration`);
  const known = target.domains.get(id);
  if (known && known.spec.tags.id !== live.tags.id) throw foreign('domain', id, known.spec.tags);
  if (known && (known.incoming || isActive(known)))
    throw refuse('INVALID_STATE', `Domain ${id} is ${known.incoming ? 'arriving' : known.state} on ${target.name}`);
  checkRunnable(target, live);

  const startedAt = Date.now();
  const back = target.leftLogs.get(id);
  const incoming = newDomain(domain.spec, {
    live,
    state: 'paused',
    reason: 'migration',
    incoming: true,
    // QEMU goes on at the end of a log that is there.
    ...(back ? { serial: back } : {}),
  });
  target.domains.set(id, incoming);
  occupy(target, live);
  // libvirt tells of the arriving QEMU as of any other; only `domain.resumed` means that the guest is here.
  publish(target, 'domain.started', id, 'migrated');
  const stepMs = host.world.settings.migrationMs / 10;
  domain.leaving = true;
  const giveUp = () => {
    domain.leaving = false;
    vacate(target, live);
    if (target.connection === 'up') publish(target, 'domain.crashed', id, 'crashed');
    if (target.domains.get(id) !== incoming) return;
    if (known) target.domains.set(id, known);
    else target.domains.delete(id);
  };
  for (let step = 1; step <= 10; step += 1) {
    await pause(stepMs, signal);
    const lost = whyLost(host, domain, target, incoming);
    if (signal.aborted || lost) {
      giveUp();
      throw lost ?? new Error('cancelled');
    }
    if (step < 10) progress(step * 10);
  }
  // The switch-over: from here the guest is the target's, and nothing is left on the source.
  vacate(host, live);
  clearTimeout(domain.bootTimer);
  host.domains.delete(id);
  host.leftLogs.set(id, domain.serial);
  target.leftLogs.delete(id);
  Object.assign(incoming, { state: 'running', reason: 'migrated', incoming: false, startedAt: domain.startedAt });
  host.world.running.set(id, target);
  publish(host, 'domain.stopped', id, 'migrated');
  publish(target, 'domain.resumed', id, 'migrated');
  return { downtimeMs: 20, totalMs: Date.now() - startedAt, transferredBytes: live.memoryMib * 2 ** 20 };
}

function whyLost(host: Host, domain: Domain, target: Host, incoming: Domain): Error | undefined {
  const { id } = domain.spec;
  if (!domain.live || host.domains.get(id) !== domain)
    return refuse('INVALID_STATE', `Domain ${id} ended on ${host.name} during its migration`);
  if (target.domains.get(id) !== incoming || target.connection !== 'up')
    return refuse('BACKEND_UNAVAILABLE', `${target.name} was lost during the migration`, true);
  return undefined;
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
