import { access, mkdir, open, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';

/** Where things are on a host. */
export const PATHS = {
  state: '/var/lib/belay',
  fence: '/var/lib/belay/fence.json',
  heartbeat: '/var/lib/belay/heartbeat.json',
  configuration: '/etc/belay',
  run: '/run/belay',
  libvirtSocket: '/run/libvirt/libvirt-sock',
  ovsdbSocket: '/run/openvswitch/db.sock',
  serialLogs: '/var/log/libvirt',
} as const;

/** After it, what the file holds, or which names the directory has, outlasts a loss of power. */
export async function sync(path: string): Promise<void> {
  const file = await open(path, 'r');
  await file.sync().finally(() => file.close());
}

/** Writes beside the place and renames, so that a reader, a crash, or a loss of power leaves the old file or the new. */
export async function writeFileAtomically(path: string, content: string | Buffer, mode: number): Promise<void> {
  await mkdir(dirname(path), { recursive: true, mode: 0o755 });
  const part = `${path}.part`;
  await rm(part, { force: true });
  await writeFile(part, content, { mode, flush: true });
  await rename(part, path);
  await sync(dirname(path));
}

/** The text, or undefined when there is no such file. */
export async function readIfExists(path: string): Promise<string | undefined> {
  return readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return undefined;
    throw error;
  });
}

export async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

/** Every file below a directory, as full paths; none when it does not exist. */
export async function filesBelow(directory: string): Promise<string[]> {
  const entries = await readdir(directory, { withFileTypes: true }).catch(() => []);
  const nested = await Promise.all(
    entries.map((entry) => {
      const path = join(directory, entry.name);
      return entry.isDirectory() ? filesBelow(path) : [path];
    }),
  );
  return nested.flat().sort();
}
