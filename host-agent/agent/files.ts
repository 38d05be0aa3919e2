/**
 * Pools of files: qcow2 images in a directory, each layer of a volume in a file of its own that reads through to the one below.
 *
 *     volumes/<volume>.qcow2                what a guest opens, and writes to
 *     volumes/<volume>.<snapshot>.qcow2     a layer as it was when the snapshot was taken; never written again
 *     volumes/<volume>.trashed.qcow2
 *     images/<image>.qcow2                  what volumes are cloned from
 *     seeds/<instance>.iso
 *     parts/                                what is being made; gets its name when it is whole
 *
 * Beside each lies a .json with its tags. A layer without one has lost its snapshot, and goes as soon as it can. Backing names are relative, so
 * that a pool may be mounted elsewhere. No name comes from outside: all are made of ids, and nothing that is a link is followed.
 *
 * Who may write is QEMU's own business: whoever opens an image locks it, on a shared file system for all hosts. What works on a volume here asks for
 * that lock first, and refuses while a guest has it, on whatever host.
 */
import { lstat, mkdir, open, readdir, readFile, realpath, rename, rm, rmdir, statfs } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { Problem } from '../problem.ts';
import { type FileAddress, type FileInventory, type FileRoot, LAYERS_MAX } from '../protocol/files.ts';
import type { Calls, Tags, Tasks } from '../protocol.ts';
import { runProgram } from './command.ts';
import { importInto, makeSeed } from './images.ts';
import { exists, PATHS, readIfExists, writeFileAtomically } from './paths.ts';
import type { TaskContext } from './tasks.ts';

type Input<Name extends keyof Calls> = Calls[Name]['input'];

const folders = ['volumes', 'images', 'seeds', 'parts'] as const;
type Folder = (typeof folders)[number];
const folderOf = { volume: 'volumes', image: 'images', seed: 'seeds' } as const;

/** Says whose directory it is. Where it is missing, what should be mounted there is not. */
const MARKER = '.belay-pool';
const GIB = 2 ** 30;
const MOUNT_OPTIONS = 'hard,nosuid,nodev,noexec,vers=4.2';
/** As long as the copying of layers may take. */
const COPY_TIMEOUT_MS = 3_400_000;

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
  const found = await lstat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  if (found && !found.isFile()) throw new Problem('PRECONDITION_FAILED', `${path} is no file`);
  return found !== undefined;
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

interface Places {
  /** Where it is remembered which directory a pool is. */
  configuration: string;
  /** Where exports of NFS are mounted. */
  mounts: string;
}

export type FilePools = ReturnType<typeof filePools>;

export function filePools({ configuration, mounts }: Places = FILE_PLACES) {
  const kept = (poolId: string): string => join(configuration, `${poolId}.json`);
  const directoryOf = (poolId: string, root: FileRoot): string =>
    root.type === 'nfs' ? join(mounts, poolId) : root.path;

  /** The pool's directory, looked at anew each time: it may have been unmounted. @throws Problem PRECONDITION_FAILED */
  async function directory(poolId: string): Promise<string> {
    const root = await readIfExists(kept(poolId));
    if (root === undefined)
      throw new Problem('PRECONDITION_FAILED', `this host is not connected to the storage pool ${poolId}`);
    const path = directoryOf(poolId, JSON.parse(root) as FileRoot);
    await mustBe(poolId, path);
    return path;
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
      layer: (snapshot: string): string => join(folder, `${id}.${snapshot}.qcow2`),
      part: join(await inFolder(poolId, 'parts'), `${id}.qcow2`),
    };
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
    const file = await open(part, 'r');
    await file.sync().finally(() => file.close());
    await rename(part, path);
  }

  /** An empty layer above another file of the pool, which need not be there yet. */
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
      `../${below.folder}/${below.name}`,
      part,
      String(bytes),
    ]);
  }

  /** What reads through to what: by the name of the file below. */
  async function dependents(poolId: string): Promise<Map<string, string[]>> {
    const above = new Map<string, string[]>();
    for (const folder of ['volumes', 'parts'] as const) {
      const path = await inFolder(poolId, folder);
      for (const name of await readdir(path)) {
        if (!name.endsWith('.qcow2')) continue;
        // It may go while this looks: then it lives on nothing.
        const below = await backingName(join(path, name)).catch((error: NodeJS.ErrnoException) => {
          if (error.code === 'ENOENT') return undefined;
          throw error;
        });
        if (below !== undefined) above.set(below, [...(above.get(below) ?? []), join(path, name)]);
      }
    }
    return above;
  }

  /**
   * Removes the layers of a volume whose snapshots are gone and that nothing lives on, and joins one on which a single layer of the same volume
   * lives with that. What a guest has open stays until the next time.
   */
  async function tidy(poolId: string, id: string): Promise<void> {
    const { folder } = await volumeAt(poolId, id);
    for (;;) {
      const above = await dependents(poolId);
      const names = (await readdir(folder)).filter((name) => /\.(snap|safety)-[0-9a-f-]+\.qcow2$/.test(name));
      const removed = [];
      for (const name of names)
        if (name.startsWith(id) && (await tagsOf(join(folder, name))) === undefined) removed.push(name);
      let changed = false;
      for (const name of removed)
        changed = (await tidyLayer(poolId, join(folder, name), above.get(name) ?? [])) || changed;
      if (!changed) return;
    }
  }

  /** Answers whether something has changed. */
  async function tidyLayer(poolId: string, layer: string, above: string[]): Promise<boolean> {
    const [only, another] = above;
    if (only === undefined) {
      await removeFile(poolId, layer);
      return true;
    }
    const volume = (path: string): string => basename(path).slice(0, 36);
    if (another !== undefined || volume(only) !== volume(layer) || basename(join(only, '..')) !== 'volumes')
      return false;
    try {
      // Named by its layer: of two that try at once, the second finds another below and changes nothing.
      await qemuImg(['commit', '-q', '-f', 'qcow2', '-b', layer, only]);
    } catch (error) {
      if (error instanceof Problem && error.code === 'INVALID_STATE') return false;
      throw error;
    }
    await rename(layer, only);
    return true;
  }

  /** With what it alone has kept. */
  async function removeFile(poolId: string, path: string): Promise<void> {
    const below = await backingName(path);
    await rm(path, { force: true });
    const [, volume] = /^([0-9a-f-]{36})\.(?:snap|safety)-/.exec(below ?? '') ?? [];
    if (volume !== undefined && volume !== basename(path).slice(0, 36)) await tidy(poolId, volume);
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
    await mkdir(path, { recursive: true, mode: 0o711 });
    if (!(await isMounted(path)))
      await runProgram('mount', ['-t', 'nfs4', '-o', MOUNT_OPTIONS, '--', `${root.server}:${root.path}`, path]);
    return path;
  }

  async function unmount(poolId: string): Promise<void> {
    const path = join(mounts, poolId);
    if (await isMounted(path)) await runProgram('umount', ['--', path]);
    await rmdir(path).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error;
    });
  }

  const pathOf = async ({ poolId, of, id }: FileAddress): Promise<{ path: string; format: 'qcow2' | 'raw' }> =>
    of === 'seed'
      ? { path: join(await inFolder(poolId, 'seeds'), `${id}.iso`), format: 'raw' }
      : { path: join(await inFolder(poolId, folderOf[of]), `${id}.qcow2`), format: 'qcow2' };

  return {
    directory,
    /** Where a guest's disk is, and what is in it. */
    pathOf,

    async connect({ poolId, root, make }: Input<'files.ensureConnected'>) {
      const path = await mount(poolId, root);
      await refuseLinks(path);
      const marker = join(path, MARKER);
      const owner = (await readIfExists(marker))?.trim();
      if (make && owner === undefined) {
        const foreign = await readdir(path);
        if (foreign.some((name) => name !== 'lost+found'))
          throw new Problem('PRECONDITION_FAILED', `${path} is not empty, and not the directory of a storage pool`);
        await writeFileAtomically(marker, `${poolId}\n`, 0o644);
      } else if (make && owner !== poolId)
        throw new Problem('NAME_IN_USE', `${path} is the directory of pool ${owner}`);
      await mustBe(poolId, path);
      for (const folder of folders) await mkdir(join(path, folder), { recursive: true, mode: 0o711 });
      await writeFileAtomically(kept(poolId), `${JSON.stringify(root)}\n`, 0o600);
      return room(path);
    },
    async disconnect(poolId: string) {
      await unmount(poolId);
      await rm(kept(poolId), { force: true });
    },
    async removePool({ poolId, root }: Input<'files.ensurePoolAbsent'>) {
      const path = await mount(poolId, root);
      // What is not this pool's, or not there any more, is left alone.
      if ((await readIfExists(join(path, MARKER)))?.trim() !== poolId) return unmount(poolId);
      await refuseLinks(path);
      for (const folder of folders)
        for (const name of await readdir(join(path, folder)).catch(() => []))
          throw new Problem('INVALID_STATE', `storage pool ${poolId} still holds ${folder}/${name}`);
      for (const folder of folders) await rm(join(path, folder), { recursive: true, force: true });
      await rm(join(path, MARKER), { force: true });
      await unmount(poolId);
      await rm(kept(poolId), { force: true });
    },
    status: async (poolId: string) => room(await directory(poolId)),
    /** The ids of pools that this host is connected to. */
    async connected(): Promise<string[]> {
      const names = await readdir(configuration).catch(() => []);
      return names.flatMap((name) => (name.endsWith('.json') ? [name.slice(0, -'.json'.length)] : []));
    },

    async ensureVolume({ poolId, id, sizeGib, tags }: Input<'files.ensureVolume'>) {
      const { own, part } = await volumeAt(poolId, id);
      await claim(own, tags);
      if (await isFile(own)) return ensureSize(own, Math.max(sizeGib * GIB, await virtualBytes(own)), false);
      await rm(part, { force: true });
      await qemuImg(['create', '-q', '-f', 'qcow2', part, String(sizeGib * GIB)]);
      await settle(part, own);
    },
    async ensureClone({ poolId, id, from, sizeGib, tags }: Input<'files.ensureClone'>) {
      const { own, part, folder } = await volumeAt(poolId, id);
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
    },
    async ensureAbsent({ poolId, of, id, onlyOperation }: Input<'files.ensureAbsent'>) {
      const { path } = await pathOf({ poolId, of, id });
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
    },
    async ensureSize({ poolId, id, sizeGib, allowShrink }: Input<'files.ensureSize'>) {
      const { own } = await volumeAt(poolId, id);
      if (!(await isFile(own))) throw new Problem('NOT_FOUND', `storage pool ${poolId} has no volume ${id}`);
      await refuseOpen(own);
      await ensureSize(own, sizeGib * GIB, allowShrink);
    },

    async ensureSnapshot({ poolId, id, snapshot, tags }: Input<'files.ensureSnapshot'>) {
      const { own, part, layer } = await volumeAt(poolId, id);
      const below = layer(snapshot);
      if (!(await isFile(below))) {
        if (!(await isFile(own))) throw new Problem('NOT_FOUND', `storage pool ${poolId} has no volume ${id}`);
        await refuseOpen(own);
        if (snapshot.startsWith('snap-')) await refuseHigher(own, `volume ${id}`);
        await claim(below, tags);
        await overlay(part, { folder: 'volumes', name: basename(below) }, await virtualBytes(own));
        await rename(own, below);
        await settle(part, own);
      } else {
        await claim(below, tags);
        if (await isFile(own)) return;
        // The agent ended between the two names.
        await overlay(part, { folder: 'volumes', name: basename(below) }, await virtualBytes(below));
        await settle(part, own);
      }
    },
    async ensureSnapshotAbsent({ poolId, id, snapshot }: Input<'files.ensureSnapshotAbsent'>) {
      const { layer } = await volumeAt(poolId, id);
      await rm(tagsBeside(layer(snapshot)), { force: true });
      await tidy(poolId, id);
    },
    async rollBack({ poolId, id, snapshot }: Input<'files.rollBack'>) {
      const { own, part, layer } = await volumeAt(poolId, id);
      const below = layer(snapshot);
      if (!(await isFile(below)) || !(await tagsOf(below)))
        throw new Problem('NOT_FOUND', `volume ${id} has no snapshot ${snapshot}`);
      if (await isFile(own)) await refuseOpen(own);
      await overlay(part, { folder: 'volumes', name: basename(below) }, await virtualBytes(below));
      await settle(part, own);
      await tidy(poolId, id);
    },

    async ensureTrashed({ poolId, id }: Input<'files.ensureTrashed'>) {
      const { own, trashed } = await volumeAt(poolId, id);
      if (!(await isFile(own))) return;
      await refuseOpen(own);
      await rename(own, trashed);
    },
    async ensureRestored({ poolId, id }: Input<'files.ensureRestored'>) {
      const { own, trashed } = await volumeAt(poolId, id);
      if (await isFile(own)) return;
      if (!(await isFile(trashed)))
        throw new Problem('NOT_FOUND', `neither storage pool ${poolId} nor its trash holds volume ${id}`);
      await rename(trashed, own);
    },
    async ensureExpunged({ poolId, id }: Input<'files.ensureExpunged'>) {
      const { own, trashed, part, folder } = await volumeAt(poolId, id);
      for (const path of [own, trashed]) {
        if (!(await isFile(path))) continue;
        await refuseOpen(path);
        await removeFile(poolId, path);
      }
      await rm(part, { force: true });
      for (const name of await readdir(folder))
        if (name.startsWith(id) && name.endsWith('.json')) await rm(join(folder, name), { force: true });
      await tidy(poolId, id);
    },

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
          const sizeBytes = of === 'seed' ? (await lstat(path)).size : await virtualBytes(path);
          const snapshots = all.flatMap((other) =>
            other.startsWith(`${id}.s`) && other.endsWith('.json') ? [other.slice(id.length + 1, -'.json'.length)] : [],
          );
          files.push({ of, id, sizeBytes, tags: (await tagsOf(path)) ?? {}, snapshots });
        }
      }
      const trash = (names.get('volumes') ?? []).flatMap((name) => /^(.{36})\.trashed\.qcow2$/.exec(name)?.[1] ?? []);
      return { files, trash, parts: names.get('parts') ?? [] };
    },

    async ensureSeed({ poolId, tags, ...seed }: Input<'files.ensureSeed'>) {
      const { path } = await pathOf({ poolId, of: 'seed', id: seed.instanceId });
      await claim(path, tags);
      const part = join(await inFolder(poolId, 'parts'), basename(path));
      await makeSeed(seed, (iso) => writeFileAtomically(part, iso, 0o600));
      await settle(part, path);
    },

    async importImage(
      { poolId, id, tags, ...source }: Tasks['files.import']['input'],
      task: TaskContext,
    ): Promise<Tasks['files.import']['result']> {
      const { path } = await pathOf({ poolId, of: 'image', id });
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
  return (await exists(path)) && mounts.split('\n').some((line) => line.split(' ')[4] === path);
}
