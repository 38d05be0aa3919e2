import { rmSync, watch } from 'node:fs';
import { copyFile, type FileHandle, mkdir, open, readdir, readFile, rm, stat, truncate } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { PATHS, writeFileAtomically } from './paths.ts';

const CHUNK_BYTES = 64 * 1024;
/** A guest may write to its console without end. */
const MAX_LOG_BYTES = 16 * 1024 * 1024;
const KEEP_UNUSED_LOGS_MS = 7 * 24 * 60 * 60 * 1_000;
/** In case a change slips past the file system's notifications. */
const LOOK_AGAIN_MS = 1_000;

export function serialLogPath(id: string): string {
  return join(PATHS.serialLogs, `instance-${id}.serial.log`);
}

/** What the guest said before it came here, carried along by its migration. QEMU writes to the log itself, so it is a file of its own. */
const earlierPath = (id: string): string => join(PATHS.serialLogs, `instance-${id}.serial.earlier`);

/** Guests that went on to another host. One whose log is there again has come back. */
const left = new Set<string>();

export async function ensureEarlierSerialLog(id: string, text: string): Promise<void> {
  await mkdir(PATHS.serialLogs, { recursive: true });
  await writeFileAtomically(earlierPath(id), text, 0o600);
}

/** At once, so that no reader sees the log gone without knowing why. Who has it open reads it to its end. */
export function ensureSerialLogAbsent(id: string): void {
  for (const path of [serialLogPath(id), `${serialLogPath(id)}.1`, earlierPath(id)]) rmSync(path, { force: true });
  left.add(id);
}

/** The last part of the log, cut at a character's start; empty when there is none. */
export async function tailOfSerialLog(id: string, bytes: number): Promise<string> {
  const here = await tailOf(serialLogPath(id), bytes);
  const before = here.length < bytes ? await tailOf(earlierPath(id), bytes - here.length) : Buffer.alloc(0);
  return Buffer.concat([before, here])
    .toString('utf8')
    .replace(/^\ufffd+/, '');
}

async function tailOf(path: string, bytes: number): Promise<Buffer> {
  const file = await open(path).catch(() => undefined);
  if (!file) return Buffer.alloc(0);
  try {
    const { size } = await file.stat();
    const length = Math.min(size, bytes);
    const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, size - length);
    return buffer.subarray(0, bytesRead);
  } finally {
    await file.close();
  }
}

/**
 * The bytes of the log from its start, what the guest said before it came here first unless one has `arrived` with it; with `follow` on
 * and on as the guest writes, through rotation, until it leaves or `signal` ends it.
 */
export async function* readSerialLog(
  id: string,
  follow: boolean,
  signal: AbortSignal,
  arrived = false,
): AsyncGenerator<Buffer> {
  const path = serialLogPath(id);
  const before = arrived ? undefined : await readFile(earlierPath(id)).catch(() => undefined);
  if (before && before.length > 0) yield before;
  await mkdir(dirname(path), { recursive: true });
  let file: FileHandle | undefined;
  let inode = 0;
  let position = 0;
  let wake: () => void = () => {};
  const watcher = follow
    ? watch(dirname(path), (_event, name) => (name === basename(path) ? wake() : undefined))
    : undefined;
  watcher?.on('error', () => {}); // looking again every second still works
  const onAbort = () => wake();
  signal.addEventListener('abort', onAbort);
  try {
    while (!signal.aborted) {
      // Armed before reading: a write that comes in between is not missed.
      const changed = new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, LOOK_AGAIN_MS);
        wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      const hasLeft = left.has(id);
      const now = await stat(path).catch(() => undefined);
      if (now) left.delete(id);
      if (now && now.ino !== inode) {
        await file?.close();
        file = await open(path).catch(() => undefined);
        inode = file ? now.ino : 0;
        position = 0;
      }
      if (now && now.size < position) position = 0; // cut short by `trimSerialLogs`
      for (;;) {
        const { bytesRead, buffer } = (await file?.read(Buffer.alloc(CHUNK_BYTES), 0, CHUNK_BYTES, position)) ?? {
          bytesRead: 0,
        };
        if (!buffer || bytesRead === 0 || signal.aborted) break;
        position += bytesRead;
        yield buffer.subarray(0, bytesRead);
      }
      if (!follow || (hasLeft && !now)) return;
      if (!signal.aborted) await changed;
    }
  } finally {
    wake();
    signal.removeEventListener('abort', onAbort);
    watcher?.close();
    await file?.close();
  }
}

/**
 * Keeps logs from filling the disk: a long one is moved aside and cut (QEMU appends, so it goes on at the start), and those of
 * instances that are not defined here any more go after a week.
 */
export async function trimSerialLogs(definedIds: Set<string>): Promise<void> {
  for (const name of await readdir(PATHS.serialLogs).catch(() => [])) {
    const id = /^instance-([0-9a-f-]{36})\.serial\.(log|earlier)/.exec(name)?.[1];
    if (!id) continue;
    const path = join(PATHS.serialLogs, name);
    const { size, mtimeMs } = await stat(path);
    if (!definedIds.has(id) && Date.now() - mtimeMs > KEEP_UNUSED_LOGS_MS) await rm(path, { force: true });
    else if (size > MAX_LOG_BYTES && name.endsWith('.log')) {
      await copyFile(path, `${path}.1`);
      await truncate(path, 0);
    }
  }
}
