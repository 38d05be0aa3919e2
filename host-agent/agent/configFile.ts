import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { PATHS, readIfExists, writeFileAtomically } from './paths.ts';

/**
 * Sets `key = value` lines and leaves everything else as it is: a line of that key is replaced, a missing one is added at the end.
 * Values are written as they are, so strings come with their quotes. `separator` is `=` for files that a shell reads.
 */
export function setKeys(text: string, keys: Record<string, string>, separator = ' = '): string {
  const lines = text === '' ? [] : text.replace(/\n$/, '').split('\n');
  for (const [key, value] of Object.entries(keys)) {
    const line = `${key}${separator}${value}`;
    const index = lines.findIndex((existing) => existing.replace(/\s*=.*$/, '').trim() === key);
    if (index >= 0) lines[index] = line;
    else lines.push(line);
  }
  return `${lines.join('\n')}\n`;
}

/** Stands in a backup for "there was no such file". */
const NO_FILE = 'Belay: there was no such file\n';

function backupPath(path: string): string {
  return join(PATHS.state, 'before', path.replaceAll('/', '%'));
}

/** Writes a file that may have been there before, keeping its first content aside. Answers whether anything changed. */
export async function replaceFile(path: string, content: string, mode: number): Promise<boolean> {
  const current = await readIfExists(path);
  if ((await readIfExists(backupPath(path))) === undefined) {
    await mkdir(join(PATHS.state, 'before'), { recursive: true, mode: 0o700 });
    await writeFileAtomically(backupPath(path), current ?? NO_FILE, 0o600);
  }
  if (current === content) return false;
  await writeFileAtomically(path, content, mode);
  return true;
}

/** Puts a file back as it was before the first `replaceFile`. Answers whether anything changed. */
export async function restoreFile(path: string, mode: number): Promise<boolean> {
  const before = await readIfExists(backupPath(path));
  if (before === undefined) return false;
  const current = await readIfExists(path);
  if (before === NO_FILE) await rm(path, { force: true });
  else if (current !== before) await writeFileAtomically(path, before, mode);
  await rm(backupPath(path), { force: true });
  return current !== (before === NO_FILE ? undefined : before);
}
