/**
 * Pools of files: qcow2 images in a directory, each layer of a volume in a file of its own that reads through to the one below.
 *
 *     volumes/<volume>.qcow2                what a guest opens, and writes to
 *     volumes/<volume>.<snapshot>.qcow2     a layer as it was when the snapshot was taken; never written again
 *     volumes/<volume>.top-<snapshot>.qcow2 what a guest writes to that was snapped while it ran, until it has ended
 *     volumes/<volume>.trashed.qcow2
 *     images/<image>.qcow2                  what volumes are cloned from
 *     seeds/<instance>.iso
 *     parts/                                what is being made; gets its name when it is whole
 *     parts/<name>.removed.qcow2            what is being removed
 *
 * Beside each lies a .json with its tags. A layer without one has lost its snapshot, and goes as soon as it can. Backing names are relative, so
 * that a pool may be mounted elsewhere. No name comes from outside: all are made of ids, and nothing that is a link is followed.
 *
 * Who may write is QEMU's own business: whoever opens an image locks it, on a shared file system for all hosts. What works on a volume here asks for
 * that lock first, and refuses while a guest has it, on whatever host.
 *
 * QEMU opens files again by the names that it knows, and so does the host to which a guest moves: under a guest that runs no file loses its name
 * or gets another's. So a layer that came to be while it ran has two: the one by which the guest has it, and the one that others read through.
 * After snapshots A and B of a guest that began on the volume's own file:
 *
 *     file                         names it has                        when
 *     what it wrote to before A    <volume>, <volume>.A                since A; once the guest has ended, the second alone
 *     between A and B              <volume>.top-A, <volume>.B          since B; once the guest has ended, the second alone
 *     since B                      <volume>.top-B                      until the guest has ended; from then on <volume> alone
 *     one made for a snapshot C    <volume>.top-C, beside .top-B and   until the guest writes to it, or it is removed unused
 *                                  .C, both of which are one file
 *     one that was joined          <volume>.top-A, <volume>.B          until it is emptied: the guest knows it no more
 *
 * The invariant: *exactly one .top- file has a single name: the one the guest writes to*, or is to write to from now on. By that it is found when the
 * guest has ended. It fails only between giving a file its second name and making the next one; what was begun there is taken back.
 *
 * A volume has one caller at a time, on whatever host: whoever holds it in the records. Other volumes of its pool may be worked on meanwhile, from
 * here and from other hosts. So a call changes its own volume; of another one it removes no more than layers that nothing lives on any more.
 */
import { link, lstat, mkdir, open, readdir, readFile, realpath, rename, rm, rmdir, statfs } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { Problem } from '../problem.ts';
import { type FileAddress, type FileInventory, type FileRoot, LAYERS_MAX } from '../protocol/files.ts';
import type { Calls, Tags, Tasks } from '../protocol.ts';
import { runProgram } from './command.ts';
import { importInto, makeSeed } from './images.ts';
import { keyedMutex } from './keyedMutex.ts';
import { exists, PATHS, readIfExists, sync, writeFileAtomically } from './paths.ts';
import type { TaskContext } from './tasks.ts';

type Input<Name extends keyof Calls> = Calls[Name]['input'];

const folders = ['volumes', 'images', 'seeds', 'parts'] as const;
/** One file for each host; pools that were made before have none. */
export const heartbeatFolder = 'heartbeats';
type Folder = (typeof folders)[number];
const folderOf = { volume: 'volumes', image: 'images', seed: 'seeds' } as const;

/** Says whose directory it is. Where it is missing, what should be mounted there is not. */
const MARKER = '.belay-pool';
const GIB = 2 ** 30;
const MOUNT_OPTIONS = 'hard,nosuid,nodev,noexec,vers=4.2';
/** Much longer than a file server takes that is busy, and shorter than a caller waits. */
const ANSWER_TIMEOUT_MS = 10_000;
/** As long as the copying of layers may take, less than its caller waits. */
const COPY_TIMEOUT_MS = 3_300_000;
/** No join is begun later than this, so that a guest is held no longer than by one more. */
const JOINS_MS = 600_000;

/** Directories of the system itself, in which no pool may be; what lies below `/var/lib` and `/mnt` may. */
const SYSTEM =
  /^\/(bin|boot|dev|etc|lib\w*|proc|root|run|sbin|sys|usr|var\/(run|lock|log|lib\/(belay|dpkg|libvirt)))(\/|$)/;

/** Runs qemu-img. An image that somebody has open is told as that. */
async function qemuImg(argv: string[]): Promise<string> {
  try {
    return await runProgram('qemu-img', argv, { timeoutMs: COPY_TIMEOUT_MS });
  } catch (error) {
    if (error instanceof Problem && /Failed to get .*lock/.test(error.message))
      throw new Problem('INVALID_STATE', `${basename(argv.at(-1) ?? '')} is open in a guest`, true);
    throw error;
  }
}

async function isFile(path: string): Promise<boolean> {
  const found = await unlessMissing(lstat(path));
  if (found && !found.isFile()) throw new Problem('PRECONDITION_FAILED', `${path} is no file`);
  return found !== undefined;
}

/** The volume that a file belongs to, when that is a layer. */
const volumeOfLayer = (name: string | undefined): string | undefined =>
  /^([0-9a-f-]{36})\.(?:snap|safety)-[0-9a-f-]+\.qcow2$/.exec(name ?? '')?.[1];

const REMOVED = '.removed.qcow2';

/** For what can wait until a guest has ended. */
function unlessOpen(error: unknown): void {
  if (!(error instanceof Problem && error.code === 'INVALID_STATE')) throw error;
}

const unlessMissing = <Result>(looking: Promise<Result>): Promise<Result | undefined> =>
  looking.catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });

async function move(from: string, to: string): Promise<void> {
  await rename(from, to);
  await sync(dirname(to));
  await sync(dirname(from));
}

/** The name of the file that a qcow2 image reads through to; none of one that stands alone (QEMU, docs/interop/qcow2.txt). */
export async function backingName(path: string): Promise<string | undefined> {
  const file = await open(path, 'r');
  try {
    const head = Buffer.alloc(20);
    await file.read(head, 0, head.length, 0);
    const offset = Number(head.readBigUInt64BE(8));
    if (head.readUInt32BE(0) !== 0x514649fb || offset === 0) return undefined;
    const text = Buffer.alloc(Math.min(head.readUInt32BE(16), 1023));
    await file.read(text, 0, text.length, offset);
    return basename(text.toString());
  } finally {
    await file.close();
  }
}

/** Refuses another layer above a file that has as many below it as there may be. */
async function refuseHigher(path: string, what: string): Promise<void> {
  let layers = 1;
  for (let at = path; ; layers++) {
    const below = await backingName(at);
    if (below === undefined) break;
    // Volumes are cloned from images, and images from nothing.
    const beside = join(at, '..', below);
    at = (await exists(beside)) ? beside : join(at, '../../images', below);
  }
  if (layers > LAYERS_MAX)
    throw new Problem(
      'NOT_SUPPORTED',
      `${what} would have more than ${LAYERS_MAX} layers below it, snapshots and what it was cloned from: delete snapshots that are not needed any more`,
    );
}

const virtualBytes = async (path: string): Promise<number> =>
  (JSON.parse(await qemuImg(['info', '-U', '-f', 'qcow2', '--output=json', path])) as { 'virtual-size': number })[
    'virtual-size'
  ];

/** @throws Problem INVALID_STATE, which may pass, while a QEMU of any host has it open for writing. */
const refuseOpen = (path: string): Promise<unknown> => qemuImg(['info', '-f', 'qcow2', '--output=json', path]);

/** A volume as a disk of a guest that runs on this host. */
export interface GuestDisk {
  /** The files that it is made of, by the names that the guest knows; first the one that it writes to. */
  chain(): Promise<string[]>;
  /** It writes to this file from now on, which is empty, and reads through to the one that it wrote to before. */
  put(path: string): Promise<void>;
  /**
   * Copies what a file of its chain has into the one below, and does without it from then on. Answers false where something else has one of them open,
   * or when it takes too long.
   */
  join(files: { top: string; base: string }): Promise<boolean>;
}

interface Places {
  /** Where it is remembered which directory a pool is. */
  configuration: string;
  /** Where exports of NFS are mounted. */
  mounts: string;
  /** How long a shared directory may take to answer. */
  answerTimeoutMs?: number;
}

export type FilePools = ReturnType<typeof filePools>;

export function filePools({ configuration, mounts, answerTimeoutMs = ANSWER_TIMEOUT_MS }: Places = FILE_PLACES) {
  const kept = (poolId: string): string => join(configuration, `${poolId}.json`);
  const directoryOf = (poolId: string, root: FileRoot): string =>
    root.type === 'nfs' ? join(mounts, poolId) : root.path;

  const inTurn = keyedMutex();
  /** Files of a pool hang together: who looks at that and changes it has the pool for itself, and copies nothing meanwhile. */
  const alone = <Result>(poolId: string, work: () => Promise<Result>, begun?: 'begun'): Promise<Result> =>
    inTurn(poolId, work, begun);
  /** A caller that lost patience may ask again while its first request is still at work: on one thing one call works at a time. */
  const copying =
    <In extends { poolId: string; id: string }, More extends unknown[]>(
      work: (input: In, ...more: More) => Promise<void>,
    ) =>
    (input: In, ...more: More): Promise<void> =>
      inTurn(`${input.poolId} ${input.id}`, () => work(input, ...more));
  const brief = <In extends { poolId: string; id: string }>(work: (input: In) => Promise<void>) =>
    copying((input: In) => alone(input.poolId, () => work(input)));

  /** The pool's directory, looked at anew each time: it may have been unmounted. @throws Problem PRECONDITION_FAILED */
  async function directory(poolId: string): Promise<string> {
    const root = await readIfExists(kept(poolId));
    if (root === undefined)
      throw new Problem('PRECONDITION_FAILED', `this host is not connected to the storage pool ${poolId}`);
    const where = JSON.parse(root) as FileRoot;
    const path = directoryOf(poolId, where);
    await mustAnswer(where, path);
    await mustBe(poolId, path);
    return path;
  }

  /**
   * A file server that hangs would hold a thread of this process for each look, of which there are few. So another process looks first, and is left
   * behind when no answer comes. @throws Problem BACKEND_UNAVAILABLE, which may pass
   */
  async function mustAnswer({ type }: Pick<FileRoot, 'type'>, path: string): Promise<void> {
    if (type === 'local') return;
    let timer: NodeJS.Timeout | undefined;
    const silence = new Promise<never>((_, reject) => {
      const tell = (): void =>
        reject(new Problem('BACKEND_UNAVAILABLE', `${path} does not answer: does its file server hang?`, true));
      timer = setTimeout(tell, answerTimeoutMs);
    });
    // Nobody but the server knows how much room there is; what it finds there is looked at afterwards.
    const look = runProgram('stat', ['-f', '--', path, join(path, MARKER)], { timeoutMs: answerTimeoutMs }).catch(
      (error: Problem) => {
        if (error.code === 'TIMEOUT') return silence;
      },
    );
    await Promise.race([look, silence]).finally(() => clearTimeout(timer));
  }

  async function mustBe(poolId: string, path: string): Promise<void> {
    if ((await readIfExists(join(path, MARKER)))?.trim() !== poolId)
      throw new Problem(
        'PRECONDITION_FAILED',
        `${path} is not the directory of storage pool ${poolId}: is it mounted?`,
      );
    await refuseLinks(path);
  }

  async function refuseLinks(path: string): Promise<void> {
    const real = await realpath(path).catch(() => undefined);
    if (real !== path)
      throw new Problem('PRECONDITION_FAILED', `${path} is no directory, or leads elsewhere by a link`);
  }

  const inFolder = async (poolId: string, folder: Folder): Promise<string> => {
    const path = join(await directory(poolId), folder);
    await refuseLinks(path);
    return path;
  };

  /** Paths of one volume, each made of its id. */
  async function volumeAt(poolId: string, id: string) {
    const folder = await inFolder(poolId, 'volumes');
    return {
      folder,
      own: join(folder, `${id}.qcow2`),
      trashed: join(folder, `${id}.trashed.qcow2`),
      top: (snapshot: string): string => join(folder, `${id}.top-${snapshot}.qcow2`),
      layer: (snapshot: string): string => join(folder, `${id}.${snapshot}.qcow2`),
      part: join(await inFolder(poolId, 'parts'), `${id}.qcow2`),
    };
  }

  /**
   * Where an agent ended while it took a snapshot, the volume's file has two names, its own and the layer's, and loses the second. Agents of before
   * gave it the layer's name first: a volume without a file gets it back from there. `asked` is the snapshot that the call is about.
   */
  async function mend(poolId: string, id: string, asked?: string): Promise<void> {
    await settleTop(poolId, id);
    const { folder, own, trashed, part, layer } = await volumeAt(poolId, id);
    const found = await unlessMissing(lstat(own, { bigint: true }));
    const inTrash = await isFile(trashed);
    if (found || inTrash) await rm(part, { force: true });
    if (found) {
      if (found.nlink === 1n) return;
      for (const name of await readdir(folder)) {
        if (volumeOfLayer(name) !== id) continue;
        const path = join(folder, name);
        if ((await unlessMissing(lstat(path, { bigint: true })))?.ino !== found.ino) continue;
        await rm(path, { force: true });
        await sync(folder);
      }
      return;
    }
    if (inTrash || !(await tagsOf(own))) return;
    const below = await unlessMissing(backingName(part));
    const path = volumeOfLayer(below) === id && below ? join(folder, below) : asked && layer(asked);
    if (!path || !(await isFile(path))) return;
    const above = ((await dependents(poolId)).get(basename(path)) ?? []).filter((other) => other !== part);
    // It is below another layer, and never was what the volume's file had.
    if (above.some((other) => basename(other).startsWith(`${id}.`))) return;
    if (above.length === 0) {
      await move(path, own);
      await rm(part, { force: true });
    } else {
      await overlay(part, { folder: 'volumes', name: basename(path) }, await virtualBytes(path));
      await settle(part, own);
    }
  }

  /** The files to which a guest that was snapped while it runs, or ran, has written one after the other. */
  async function topsOf(poolId: string, id: string) {
    const { folder } = await volumeAt(poolId, id);
    const names = (await readdir(folder)).filter((name) => name.startsWith(`${id}.top-`));
    return Promise.all(
      names.map(async (name) => {
        const { ino, nlink } = await lstat(join(folder, name), { bigint: true });
        // One that was written to before has become a layer, and has its name beside this one: the invariant above.
        return { path: join(folder, name), ino, isLast: nlink === 1n };
      }),
    );
  }

  /** What a volume's guest writes to. @throws Problem INTERNAL rather than to choose */
  async function lastOf(poolId: string, id: string): Promise<string> {
    const [last, another] = (await topsOf(poolId, id)).filter(({ isLast }) => isLast);
    if (another) throw untold(id);
    return last?.path ?? (await volumeAt(poolId, id)).own;
  }
  const untold = (id: string): Problem =>
    new Problem('INTERNAL', `it can not be told which of the files of volume ${id} its guest wrote to last`);

  /**
   * Once the guest has ended, what it has written to last is the volume's file, and layers have one name. A snapshot that was on its way to it when
   * the agent ended, and has come no further than the layer's name, was not taken. Keeps the invariant until the last step. @throws Problem INVALID_STATE while the guest runs
   */
  async function settleTop(poolId: string, id: string): Promise<void> {
    const found = await topsOf(poolId, id);
    if (found.length === 0) return;
    const { folder, own, part } = await volumeAt(poolId, id);
    // A guest that never came to the file that was made for it writes to the volume's own.
    for (const path of [...found.map((top) => top.path), own]) if (await isFile(path)) await refuseOpen(path);
    if (!found.some(({ isLast }) => isLast)) {
      await rm(part, { force: true });
      const above = await dependents(poolId);
      const inodes = new Set(found.map(({ ino }) => ino));
      const names = (await readdir(folder)).filter((name) => volumeOfLayer(name) === id && !above.has(name));
      const untaken = [];
      for (const path of names.map((name) => join(folder, name)))
        if (inodes.has((await inodeOf(path)) ?? 0n)) untaken.push(path);
      if (new Set(await Promise.all(untaken.map(inodeOf))).size !== 1) throw untold(id);
      for (const path of untaken) await rm(path, { force: true });
    }
    const last = await lastOf(poolId, id);
    if (volumeOfLayer(await backingName(last)) !== id || last === own) throw untold(id);
    // The others first: when this is cut short, the last one is still told from them.
    for (const { path } of found) if (path !== last) await rm(path, { force: true });
    await sync(folder);
    await move(last, own);
  }

  const tagsBeside = (path: string): string => path.replace(/\.(qcow2|iso)$/, '.json');

  async function tagsOf(path: string): Promise<Partial<Tags> | undefined> {
    const text = await readIfExists(tagsBeside(path));
    return text === undefined ? undefined : (JSON.parse(text) as Partial<Tags>);
  }

  /** @throws Problem NAME_IN_USE for what belongs to something else */
  async function claim(path: string, tags: Tags): Promise<void> {
    const found = await tagsOf(path);
    if (found && found.id !== tags.id)
      throw new Problem('NAME_IN_USE', `${basename(path)} belongs to ${found.kind ?? 'something'} ${found.id ?? ''}`);
    if (!found) await writeFileAtomically(tagsBeside(path), JSON.stringify(tags), 0o600);
  }

  /** Gives what is whole its name. */
  async function settle(part: string, path: string): Promise<void> {
    await sync(part);
    await move(part, path);
  }

  /**
   * An empty layer above another file of the pool, which need not be there yet. Names of the same folder are plain: QEMU puts one after the other when
   * it joins, and they would grow.
   */
  async function overlay(part: string, below: { folder: Folder; name: string }, bytes: number): Promise<void> {
    await rm(part, { force: true });
    await qemuImg([
      'create',
      '-q',
      '-u',
      '-f',
      'qcow2',
      '-F',
      'qcow2',
      '-b',
      below.folder === 'volumes' ? below.name : `../${below.folder}/${below.name}`,
      part,
      String(bytes),
    ]);
  }

  /**
   * What reads through to what: by the name of the file below.
   *
   * Files get other names while this looks, and a directory that is read meanwhile may tell of neither. So it looks until it finds nothing new, and
   * once more at what reads through to a layer that it has not found: that was joined with it.
   */
  async function dependents(poolId: string): Promise<Map<string, string[]>> {
    const places = [await inFolder(poolId, 'volumes'), await inFolder(poolId, 'parts')];
    const found = new Map<string, string | undefined>();
    const vanished = new Set<string>();
    for (let more = true; more; ) {
      more = false;
      for (const place of places)
        for (const name of await readdir(place)) {
          const path = join(place, name);
          if (!name.endsWith('.qcow2') || name.endsWith(REMOVED) || found.has(path)) continue;
          const below = await unlessMissing(backingName(path).then((name) => ({ name })));
          if (below) found.set(path, below.name);
          else if (vanished.has(path)) continue;
          else vanished.add(path);
          more = true;
        }
      if (more) continue;
      const names = new Set([...found.keys()].map((path) => basename(path)));
      for (const [path, below] of found) {
        if (volumeOfLayer(below) === undefined || names.has(below ?? '')) continue;
        if ((await unlessMissing(backingName(path))) === below) continue;
        found.delete(path);
        more = true;
      }
    }
    const above = new Map<string, string[]>();
    for (const [path, below] of found) if (below !== undefined) above.set(below, [...(above.get(below) ?? []), path]);
    return above;
  }

  /** The layers of a volume whose snapshots are gone. */
  async function lostLayers(poolId: string, id: string): Promise<string[]> {
    const { folder } = await volumeAt(poolId, id);
    const lost = [];
    for (const name of await readdir(folder))
      if (volumeOfLayer(name) === id && (await tagsOf(join(folder, name))) === undefined) lost.push(join(folder, name));
    return lost;
  }

  /** Removes the layers of a volume whose snapshots are gone and that nothing lives on. */
  async function removeChildless(poolId: string, id: string): Promise<void> {
    const { own, trashed } = await volumeAt(poolId, id);
    await dropParts(poolId, `${id}.`, REMOVED);
    for (;;) {
      const lost = await lostLayers(poolId, id);
      if (lost.length === 0) return;
      // One that is there, and has no file, has it as one of its layers.
      if ((await tagsOf(own)) && !(await isFile(own)) && !(await isFile(trashed))) return;
      const above = await dependents(poolId);
      // The invariant: of a layer that a guest wrote to, the name of before must not be left alone.
      const written = new Set((await topsOf(poolId, id)).map(({ ino }) => ino));
      const childless = [];
      for (const path of lost)
        if (!above.has(basename(path)) && !written.has((await inodeOf(path)) ?? 0n)) childless.push(path);
      if (childless.length === 0) return;
      for (const path of childless) await removeFile(poolId, path);
    }
  }

  /**
   * Removes what `removeChildless` does, and joins a layer whose snapshot is gone and on which a single one of the same volume lives with that. What a
   * guest has open stays until the next time. Only for who holds the volume: no guest must start on it meanwhile.
   */
  async function tidy(poolId: string, id: string): Promise<void> {
    const inUse = new Set<string>();
    for (;;) {
      const next = await alone(
        poolId,
        async () => {
          await removeChildless(poolId, id);
          const lost = (await lostLayers(poolId, id)).filter((path) => !inUse.has(path));
          if (lost.length === 0) return undefined;
          const { folder } = await volumeAt(poolId, id);
          const above = await dependents(poolId);
          for (const layer of lost) {
            const [only, another] = above.get(basename(layer)) ?? [];
            if (only === undefined || another !== undefined) continue;
            if (dirname(only) === folder && basename(only).startsWith(`${id}.`)) return { layer, only };
          }
          return undefined;
        },
        'begun',
      );
      if (next === undefined) return;
      if (!(await joinLayers(poolId, next))) inUse.add(next.layer);
    }
  }

  /** Answers false when one of the two is open in a guest, or copying takes too long: the layer waits. Until it is whole, all is read from above it. */
  async function joinLayers(poolId: string, { layer, only }: { layer: string; only: string }): Promise<boolean> {
    try {
      // Named by its layer: of two that try at once, the second finds another below and changes nothing.
      await qemuImg(['commit', '-q', '-f', 'qcow2', '-b', layer, only]);
      return await alone(poolId, () => replace(poolId, layer, only), 'begun');
    } catch (error) {
      if (error instanceof Problem && ['INVALID_STATE', 'TIMEOUT'].includes(error.code)) return false;
      throw error;
    }
  }

  /** Gives a layer that has all of a file above it the name of that. */
  async function replace(poolId: string, layer: string, only: string): Promise<boolean> {
    if ((await backingName(only)) !== basename(layer)) return false;
    await sync(layer);
    await refuseOpen(only);
    const replaced = join(await inFolder(poolId, 'parts'), basename(only).replace(/\.qcow2$/, REMOVED));
    await rm(replaced, { force: true });
    await link(only, replaced);
    await move(layer, only);
    try {
      await refuseOpen(replaced);
    } catch (error) {
      // A guest that began just now opened this file before: it keeps it, with the layer below.
      await link(only, layer);
      await move(replaced, only);
      throw error;
    }
    await rm(replaced, { force: true });
    return true;
  }

  /** With what it alone has kept, of which it tells under its new name until that has gone too. */
  async function removeFile(poolId: string, path: string): Promise<void> {
    const part = join(await inFolder(poolId, 'parts'), basename(path).replace(/\.qcow2$/, REMOVED));
    // Another host may have removed the same layer.
    if ((await unlessMissing(move(path, part).then(() => true))) === undefined) return;
    await dropPart(poolId, part);
  }

  async function dropPart(poolId: string, part: string): Promise<void> {
    const volume = part.endsWith('.qcow2') ? volumeOfLayer(await unlessMissing(backingName(part))) : undefined;
    if (volume !== undefined && !basename(part).startsWith(`${volume}.`)) {
      if (!part.endsWith(REMOVED)) return removeFile(poolId, part);
      await removeChildless(poolId, volume);
    }
    await rm(part, { force: true });
  }

  async function dropParts(poolId: string, prefix: string, suffix = ''): Promise<void> {
    const place = await inFolder(poolId, 'parts');
    for (const name of await readdir(place))
      if (name.startsWith(prefix) && name.endsWith(suffix)) await dropPart(poolId, join(place, name));
  }

  async function ensureSize(path: string, bytes: number, allowShrink: boolean): Promise<void> {
    const now = await virtualBytes(path);
    if (now === bytes) return;
    if (now > bytes && !allowShrink)
      throw new Problem('INVALID_ARGUMENT', `${basename(path)} has ${now} bytes already; shrinking would destroy data`);
    await qemuImg(['resize', '-q', '-f', 'qcow2', ...(now > bytes ? ['--shrink'] : []), path, String(bytes)]);
  }

  async function room(path: string): Promise<{ totalBytes: number; usedBytes: number }> {
    const { blocks, bavail, bsize } = await statfs(path);
    return { totalBytes: blocks * bsize, usedBytes: (blocks - bavail) * bsize };
  }

  async function mount(poolId: string, root: FileRoot): Promise<string> {
    const path = directoryOf(poolId, root);
    if (root.type !== 'nfs') {
      if (SYSTEM.test(path)) throw new Problem('PRECONDITION_FAILED', `${path} is a directory of the system`);
      return path;
    }
    // To look at the directory itself may be to wait for the server that is mounted there.
    if (await isMounted(path)) return path;
    await mkdir(path, { recursive: true, mode: 0o711 });
    await runProgram('mount', ['-t', 'nfs4', '-o', MOUNT_OPTIONS, '--', `${root.server}:${root.path}`, path]);
    return path;
  }

  async function unmount(poolId: string): Promise<void> {
    const path = join(mounts, poolId);
    if (await isMounted(path)) {
      await mustAnswer({ type: 'nfs' }, path);
      await runProgram('umount', ['--', path]);
    }
    await rmdir(path).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error;
    });
  }

  async function connect({ poolId, root, make }: Input<'files.ensureConnected'>) {
    const path = await mount(poolId, root);
    await mustAnswer(root, path);
    await refuseLinks(path);
    const marker = join(path, MARKER);
    const owner = (await readIfExists(marker))?.trim();
    if (make && owner === undefined) {
      const foreign = await readdir(path);
      if (foreign.some((name) => name !== 'lost+found'))
        throw new Problem('PRECONDITION_FAILED', `${path} is not empty, and not the directory of a storage pool`);
      await writeFileAtomically(marker, `${poolId}\n`, 0o644);
    } else if (make && owner !== poolId) throw new Problem('NAME_IN_USE', `${path} is the directory of pool ${owner}`);
    await mustBe(poolId, path);
    for (const folder of folders) await mkdir(join(path, folder), { recursive: true, mode: 0o711 });
    await writeFileAtomically(kept(poolId), `${JSON.stringify(root)}\n`, 0o600);
    return room(path);
  }

  async function disconnect(poolId: string) {
    await unmount(poolId);
    await rm(kept(poolId), { force: true });
  }

  async function removePool({ poolId, root }: Input<'files.ensurePoolAbsent'>) {
    const path = await mount(poolId, root);
    await mustAnswer(root, path);
    // What is not this pool's, or not there any more, is left alone.
    if ((await readIfExists(join(path, MARKER)))?.trim() !== poolId) return unmount(poolId);
    await refuseLinks(path);
    // What was not whole when its maker ended belongs to nobody.
    for (const folder of folders)
      for (const name of await readdir(join(path, folder)).catch(() => []))
        if (folder !== 'parts' && !name.endsWith('.part'))
          throw new Problem('INVALID_STATE', `storage pool ${poolId} still holds ${folder}/${name}`);
    for (const folder of [...folders, heartbeatFolder]) await rm(join(path, folder), { recursive: true, force: true });
    await rm(join(path, MARKER), { force: true });
    await unmount(poolId);
    await rm(kept(poolId), { force: true });
  }

  const placeOf = async ({ poolId, of, id }: FileAddress): Promise<{ path: string; format: 'qcow2' | 'raw' }> =>
    of === 'seed'
      ? { path: join(await inFolder(poolId, 'seeds'), `${id}.iso`), format: 'raw' }
      : { path: join(await inFolder(poolId, folderOf[of]), `${id}.qcow2`), format: 'qcow2' };

  const pathOf = (address: FileAddress): ReturnType<typeof placeOf> =>
    alone(address.poolId, async () => {
      const { poolId, of, id } = address;
      const place = await placeOf(address);
      if (of !== 'volume') return place;
      await settleTop(poolId, id).catch(unlessOpen);
      return { ...place, path: await lastOf(poolId, id) };
    });

  /** The guest takes part: what it has open is changed by its host alone. */
  async function snapUnder(
    disk: GuestDisk,
    { poolId, id, snapshot, tags }: Input<'files.ensureSnapshot'>,
  ): Promise<void> {
    const { part, layer, top } = await volumeAt(poolId, id);
    const [below, above] = [layer(snapshot), top(snapshot)];
    await alone(
      poolId,
      async () => {
        const [open = ''] = await chainAlone(disk, poolId, id);
        const taken = await isFile(above);
        if (snapshot.startsWith('snap-') && !taken) await refuseHigher(open, `volume ${id}`);
        await claim(below, tags);
        if (taken) return;
        if (!(await isFile(below))) await link(open, below);
        await overlay(part, { folder: 'volumes', name: basename(below) }, await virtualBytes(open));
        await settle(part, above);
        await disk.put(above);
      },
      'begun',
    );
  }

  async function unsnapUnder(
    disk: GuestDisk,
    { poolId, id, snapshot }: Input<'files.ensureSnapshotAbsent'>,
  ): Promise<void> {
    await alone(poolId, async () => {
      const { folder, layer } = await volumeAt(poolId, id);
      const tags = tagsBeside(layer(snapshot));
      for (const left of [`${tags}.part`, tags]) await rm(left, { force: true });
      const [open = ''] = await chainAlone(disk, poolId, id);
      if (await isSame(layer(snapshot), open)) await rm(layer(snapshot), { force: true });
      await sync(folder);
    });
    await tidyUnder(disk, poolId, id);
  }

  /**
   * The files of a guest's chain, once no others are left that it wrote to or was to write to. It does without those: they were never written to, or
   * are joined with the layer below.
   */
  async function chainAlone(disk: GuestDisk, poolId: string, id: string): Promise<string[]> {
    const { folder } = await volumeAt(poolId, id);
    const chain = (await disk.chain()).map((path) => join(folder, basename(path)));
    const inodes = await Promise.all(chain.map(inodeOf));
    if (inodes[0] === undefined)
      throw new Problem('INVALID_STATE', `what the guest of volume ${id} writes to is not in storage pool ${poolId}`);
    for (const { path, ino, isLast } of await topsOf(poolId, id)) {
      if (inodes.includes(ino)) continue;
      // QEMU may have been slow to open it.
      await refuseOpen(path);
      const below = await backingName(path);
      // Before they are joined, nothing else reads through to what is below.
      const isJoined =
        !isLast &&
        (await lostLayers(poolId, id)).some((layer) => basename(layer) === below) &&
        (await Promise.all(chain.map((one) => unlessMissing(backingName(one))))).includes(below);
      if (isJoined) await emptyJoined(poolId, id, path, join(folder, below ?? ''));
      else await rm(path, { force: true });
      await sync(folder);
    }
    return chain;
  }

  const inodeOf = async (path: string): Promise<bigint | undefined> =>
    (await unlessMissing(lstat(path, { bigint: true })))?.ino;

  async function isSame(one: string, other: string): Promise<boolean> {
    const ino = await inodeOf(one);
    return ino !== undefined && ino === (await inodeOf(other));
  }

  /**
   * As `tidy`, in the chain of a guest that runs. Not below clones: those could not be started while QEMU writes to what they read through to. What it writes to is joined with nothing: whether that or the layer below had the last word
   * could not be told after a loss of power.
   */
  async function tidyUnder(disk: GuestDisk, poolId: string, id: string): Promise<void> {
    const { own } = await volumeAt(poolId, id);
    const tried = new Set<string>();
    for (const until = Date.now() + JOINS_MS; Date.now() < until; ) {
      const next = await alone(
        poolId,
        async () => {
          const chain = await chainAlone(disk, poolId, id);
          await removeChildless(poolId, id);
          const knows = new Set(chain.map((path) => basename(path)));
          const lost = await lostLayers(poolId, id);
          const above = await dependents(poolId);
          for (const [index, base] of chain.entries()) {
            const top = chain[index - 1];
            if (index < 2 || top === undefined || tried.has(base)) continue;
            const inode = await inodeOf(base);
            for (const layer of lost) {
              if (inode === undefined || (await inodeOf(layer)) !== inode) continue;
              // The volume's own name stands for nothing while the guest knows no file by it.
              const paths = (above.get(basename(layer)) ?? []).filter(
                (path) => path !== own || knows.has(basename(own)),
              );
              const readers = new Set(await Promise.all(paths.map(inodeOf)));
              if (readers.size === 1 && readers.has(await inodeOf(top)) && !carriesOthers(above, layer, id))
                return { top, base, layer };
            }
          }
          return undefined;
        },
        'begun',
      );
      if (next === undefined) return;
      tried.add(next.base);
      const { top, base, layer } = next;
      if (await disk.join({ top, base })) await alone(poolId, () => emptyJoined(poolId, id, top, layer), 'begun');
    }
  }

  /** Whether another volume reads through to a layer, however far above it. */
  function carriesOthers(above: Map<string, string[]>, layer: string, id: string): boolean {
    const readers = (above.get(basename(layer)) ?? []).filter((path) => path !== layer);
    return readers.some((path) => !basename(path).startsWith(`${id}.`) || carriesOthers(above, path, id));
  }

  /** What a file had is in the layer below: its names stay, for its snapshot and for what reads through to it, and nothing else. */
  async function emptyJoined(poolId: string, id: string, top: string, layer: string): Promise<void> {
    const { folder, own, part } = await volumeAt(poolId, id);
    const joined = join(folder, basename(top));
    await refuseOpen(joined);
    const [inode, bytes] = [await inodeOf(joined), await virtualBytes(joined)];
    const names = (await readdir(folder))
      .filter((name) => volumeOfLayer(name) === id)
      .map((name) => join(folder, name));
    // The invariant: emptied, its layer is another file, and this name would be left alone.
    if (basename(joined).startsWith(`${id}.top-`)) await rm(joined, { force: true });
    for (const path of [...names, own]) {
      if (inode === undefined || (await inodeOf(path)) !== inode) continue;
      await overlay(part, { folder: 'volumes', name: basename(layer) }, bytes);
      await settle(part, path);
    }
  }

  return {
    directory,
    /** Where a guest's disk is, and what is in it. */
    pathOf,

    connect: (input: Input<'files.ensureConnected'>) => alone(input.poolId, () => connect(input)),
    disconnect: (poolId: string) => alone(poolId, () => disconnect(poolId)),
    removePool: (input: Input<'files.ensurePoolAbsent'>) => alone(input.poolId, () => removePool(input)),
    status: async (poolId: string) => room(await directory(poolId)),
    /** The ids of pools that this host is connected to. */
    async connected(): Promise<string[]> {
      const names = await readdir(configuration).catch(() => []);
      return names.flatMap((name) => (name.endsWith('.json') ? [name.slice(0, -'.json'.length)] : []));
    },

    ensureVolume: brief(async ({ poolId, id, sizeGib, tags }: Input<'files.ensureVolume'>) => {
      const { own, part } = await volumeAt(poolId, id);
      await mend(poolId, id);
      await claim(own, tags);
      if (await isFile(own)) return ensureSize(own, Math.max(sizeGib * GIB, await virtualBytes(own)), false);
      await rm(part, { force: true });
      await qemuImg(['create', '-q', '-f', 'qcow2', part, String(sizeGib * GIB)]);
      await settle(part, own);
    }),
    ensureClone: brief(async ({ poolId, id, from, sizeGib, tags }: Input<'files.ensureClone'>) => {
      const { own, part, folder } = await volumeAt(poolId, id);
      await mend(poolId, id);
      await claim(own, tags);
      if (await isFile(own)) return ensureSize(own, Math.max(sizeGib * GIB, await virtualBytes(own)), false);
      const below =
        'image' in from
          ? ({ folder: 'images', name: `${from.image}.qcow2` } as const)
          : ({ folder: 'volumes', name: `${from.volume}.${from.snapshot}.qcow2` } as const);
      const path = join(folder, '..', below.folder, below.name);
      if (!(await isFile(path)) || !(await tagsOf(path)))
        throw new Problem('NOT_FOUND', `storage pool ${poolId} has no ${below.folder}/${below.name}`);
      await refuseHigher(path, `volume ${id}`);
      const least = await virtualBytes(path);
      if (sizeGib * GIB < least)
        throw new Problem('INVALID_ARGUMENT', `${sizeGib} GiB is less than the ${least} bytes of ${below.name}`);
      await overlay(part, below, sizeGib * GIB);
      await settle(part, own);
    }),
    ensureAbsent: brief(async ({ poolId, of, id, onlyOperation }: Input<'files.ensureAbsent'>) => {
      const { path } = await placeOf({ poolId, of, id });
      if (of === 'volume') await mend(poolId, id);
      // What is not whole has no tags. Several operations may be fetching one image.
      const whose = of === 'image' && onlyOperation !== undefined ? `${id}.${onlyOperation}.` : `${id}.`;
      await dropParts(poolId, whose);
      await rm(`${tagsBeside(path)}.part`, { force: true });
      const tags = await tagsOf(path);
      if (tags === undefined || (onlyOperation !== undefined && tags.operation !== onlyOperation)) return;
      if (of === 'image' && ((await dependents(poolId)).get(basename(path)) ?? []).length > 0)
        throw new Problem('INVALID_STATE', `volumes live on image ${id}`);
      if (await isFile(path)) {
        if (of === 'volume') await refuseOpen(path);
        if (of === 'volume') await removeFile(poolId, path);
        else await rm(path, { force: true });
      }
      await rm(tagsBeside(path), { force: true });
      await sync(dirname(path));
    }),
    ensureSize: brief(async ({ poolId, id, sizeGib, allowShrink }: Input<'files.ensureSize'>) => {
      await mend(poolId, id);
      const { own } = await volumeAt(poolId, id);
      if (!(await isFile(own))) throw new Problem('NOT_FOUND', `storage pool ${poolId} has no volume ${id}`);
      await refuseOpen(own);
      await ensureSize(own, sizeGib * GIB, allowShrink);
    }),

    ensureSnapshot: copying(async (input: Input<'files.ensureSnapshot'>, disk?: GuestDisk) => {
      if (disk) return snapUnder(disk, input);
      const { poolId, id, snapshot, tags } = input;
      const { folder, own, part, layer } = await volumeAt(poolId, id);
      const below = layer(snapshot);
      const taken = await alone(poolId, async () => {
        await mend(poolId, id, snapshot);
        if (await isFile(below)) {
          await claim(below, tags);
          return true;
        }
        if (!(await isFile(own))) throw new Problem('NOT_FOUND', `storage pool ${poolId} has no volume ${id}`);
        await refuseOpen(own);
        return false;
      });
      if (taken) return;
      // No guest has it open: layers that had to stay while one had can go, and count no more.
      await tidy(poolId, id);
      await alone(
        poolId,
        async () => {
          await refuseOpen(own);
          if (snapshot.startsWith('snap-')) await refuseHigher(own, `volume ${id}`);
          await claim(below, tags);
          await overlay(part, { folder: 'volumes', name: basename(below) }, await virtualBytes(own));
          await sync(part);
          // Under both names, until the new file has the first: at no moment is the volume without one.
          await link(own, below);
          await sync(folder);
          await settle(part, own);
        },
        'begun',
      );
    }),
    ensureSnapshotAbsent: copying(async (input: Input<'files.ensureSnapshotAbsent'>, disk?: GuestDisk) => {
      if (disk) return unsnapUnder(disk, input);
      const { poolId, id, snapshot } = input;
      await alone(poolId, async () => {
        // What a guest has open stays until it has ended.
        await mend(poolId, id, snapshot).catch(unlessOpen);
        const { folder, layer } = await volumeAt(poolId, id);
        const tags = tagsBeside(layer(snapshot));
        for (const left of [`${tags}.part`, tags]) await rm(left, { force: true });
        await sync(folder);
      });
      await tidy(poolId, id);
    }),
    rollBack: copying(async ({ poolId, id, snapshot }: Input<'files.rollBack'>) => {
      await alone(poolId, async () => {
        await mend(poolId, id);
        const { own, part, layer } = await volumeAt(poolId, id);
        const below = layer(snapshot);
        if (!(await isFile(below)) || !(await tagsOf(below)))
          throw new Problem('NOT_FOUND', `volume ${id} has no snapshot ${snapshot}`);
        if (await isFile(own)) await refuseOpen(own);
        await overlay(part, { folder: 'volumes', name: basename(below) }, await virtualBytes(below));
        await settle(part, own);
      });
      await tidy(poolId, id);
    }),

    ensureTrashed: brief(async ({ poolId, id }: Input<'files.ensureTrashed'>) => {
      await mend(poolId, id);
      const { own, trashed } = await volumeAt(poolId, id);
      if (!(await isFile(own))) return;
      await refuseOpen(own);
      await move(own, trashed);
    }),
    ensureRestored: brief(async ({ poolId, id }: Input<'files.ensureRestored'>) => {
      await mend(poolId, id);
      const { own, trashed } = await volumeAt(poolId, id);
      if (await isFile(own)) return;
      if (!(await isFile(trashed)))
        throw new Problem('NOT_FOUND', `neither storage pool ${poolId} nor its trash holds volume ${id}`);
      await move(trashed, own);
    }),
    ensureExpunged: copying(async ({ poolId, id }: Input<'files.ensureExpunged'>) => {
      await alone(poolId, async () => {
        const { own, trashed, folder } = await volumeAt(poolId, id);
        await settleTop(poolId, id);
        for (const path of [own, trashed]) {
          if (!(await isFile(path))) continue;
          await refuseOpen(path);
          await removeFile(poolId, path);
        }
        for (const name of await readdir(folder))
          if (name.startsWith(`${id}.`) && /\.json(\.part)?$/.test(name)) await rm(join(folder, name), { force: true });
        await sync(folder);
        await dropParts(poolId, `${id}.`);
      });
      await tidy(poolId, id);
    }),

    async inventory(poolId: string): Promise<FileInventory> {
      const files: FileInventory['files'] = [];
      const names = new Map(
        await Promise.all(
          folders.map(async (folder) => [folder, (await readdir(await inFolder(poolId, folder))).sort()] as const),
        ),
      );
      for (const of of ['volume', 'image', 'seed'] as const) {
        const all = names.get(folderOf[of]) ?? [];
        for (const name of all) {
          const id = /^([0-9a-f-]{36})\.(qcow2|iso)$/.exec(name)?.[1];
          if (id === undefined) continue;
          const path = join(await inFolder(poolId, folderOf[of]), name);
          // One volume about which this can not be told hides none of the others.
          const last = of === 'volume' ? (await topsOf(poolId, id)).find(({ isLast }) => isLast)?.path : undefined;
          const sizeBytes = of === 'seed' ? (await lstat(path)).size : await virtualBytes(last ?? path);
          const snapshots = all.flatMap((other) =>
            other.startsWith(`${id}.s`) && other.endsWith('.json') ? [other.slice(id.length + 1, -'.json'.length)] : [],
          );
          files.push({ of, id, sizeBytes, tags: (await tagsOf(path)) ?? {}, snapshots });
        }
      }
      const trash = (names.get('volumes') ?? []).flatMap((name) => /^(.{36})\.trashed\.qcow2$/.exec(name)?.[1] ?? []);
      return { files, trash, parts: names.get('parts') ?? [] };
    },

    ensureSeed({ poolId, tags, ...seed }: Input<'files.ensureSeed'>): Promise<void> {
      return alone(poolId, async () => {
        const { path } = await placeOf({ poolId, of: 'seed', id: seed.instanceId });
        await claim(path, tags);
        const part = join(await inFolder(poolId, 'parts'), basename(path));
        await makeSeed(seed, (iso) => writeFileAtomically(part, iso, 0o600));
        await settle(part, path);
      });
    },

    async importImage(
      { poolId, id, tags, ...source }: Tasks['files.import']['input'],
      task: TaskContext,
    ): Promise<Tasks['files.import']['result']> {
      const { path } = await placeOf({ poolId, of: 'image', id });
      if (await isFile(path)) {
        await claim(path, tags);
        return { virtualSizeBytes: await virtualBytes(path) };
      }
      const part = join(await inFolder(poolId, 'parts'), `${id}.${tags.operation}`);
      try {
        const virtualSizeBytes = await importInto(source, `${part}.download`, `${part}.qcow2`, task);
        await claim(path, tags);
        await settle(`${part}.qcow2`, path);
        return { virtualSizeBytes };
      } finally {
        for (const left of [`${part}.download`, `${part}.qcow2`]) await rm(left, { force: true });
      }
    },
  };
}

const FILE_PLACES: Places = { configuration: join(PATHS.configuration, 'pools'), mounts: join(PATHS.state, 'pools') };

async function isMounted(path: string): Promise<boolean> {
  const mounts = await readFile('/proc/self/mountinfo', 'utf8');
  return mounts.split('\n').some((line) => line.split(' ')[4] === path);
}
