/**
 * The Temporal programs for one machine, compiled from the Go modules that `go.mod` and `go.sum` here pin:
 * server, schema tool and web page. Where they can not be compiled, or nobody wants to wait, the `temporal` command serves instead.
 */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, rmSync } from 'node:fs';
import { rename, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Board } from '../runtime/progress.mjs';
import { ensureCommand, findCommand } from './command.ts';
import { ensureGo, type Go } from './go.ts';

export interface BuiltBinaries {
  server: string;
  sql: string;
  ui: string;
}
/** The `temporal` command, whose development server keeps its records in SQLite: slower by 50 ms per step. */
export interface CliBinary {
  cli: string;
}
export type TemporalBinaries = BuiltBinaries | CliBinary;

const PACKAGES: Readonly<Record<keyof BuiltBinaries, string>> = {
  server: 'go.temporal.io/server/cmd/server',
  sql: 'go.temporal.io/server/cmd/tools/sql',
  ui: 'github.com/temporalio/ui-server/v2/cmd/server',
};
/** Without symbol tables and debug information: 215 MB instead of 320. */
const BUILD_FLAGS = ['-ldflags', '-s -w'];
/** On two cores that do nothing else. */
const BUILD_SECONDS = 265;
const moduleDir = dirname(fileURLToPath(import.meta.url));

/**
 * Returns the paths of the Temporal programs, compiling them when `<home>/temporal/bin` does not hold the pinned
 * versions: about three minutes the first time on two cores, nothing afterwards. Two processes never compile at once.
 *
 * With neither Go nor the `temporal` command, root on Debian gets Debian's Go. Throws one line that says what to install otherwise.
 */
export async function ensureTemporalBinaries(home: string, board: Board): Promise<TemporalBinaries> {
  const log = board.say;
  const bin = join(home, 'temporal/bin');
  const stamp = pinnedVersionsHash();
  if (isBuilt(bin, stamp)) return pathsIn(bin);

  mkdirSync(join(home, 'temporal'), { recursive: true });
  const release = await lockFile(join(home, 'temporal/build.lock'));
  try {
    if (!isBuilt(bin, stamp)) {
      const go = await ensureGo({ mayInstall: findCommand(home) === undefined, log });
      await build(go, bin, stamp, board);
    }
    return pathsIn(bin);
  } catch (error) {
    return commandOrThrow(home, error instanceof Error ? error.message : String(error), board);
  } finally {
    release();
  }
}

/** Changes whenever the pinned versions or the way they are built change. */
function pinnedVersionsHash(): string {
  const hash = createHash('sha256').update(JSON.stringify([PACKAGES, BUILD_FLAGS, process.platform, process.arch]));
  for (const file of ['go.mod', 'go.sum']) hash.update(readFileSync(join(moduleDir, file)));
  return hash.digest('hex');
}

function isBuilt(bin: string, stamp: string): boolean {
  try {
    return readFileSync(join(bin, 'stamp'), 'utf8') === stamp;
  } catch {
    return false;
  }
}

const pathsIn = (bin: string): BuiltBinaries => ({
  server: join(bin, 'server'),
  sql: join(bin, 'sql'),
  ui: join(bin, 'ui'),
});

async function commandOrThrow(home: string, reason: string, board: Board): Promise<CliBinary> {
  const cli = await ensureCommand(home, board);
  if (cli === undefined) {
    throw new Error(
      `there is no Temporal server: ${reason}. Install Go (Debian's will do), put the "temporal" command on the PATH, or set BELAY_TEMPORAL_ADDRESS to a running Temporal Service`,
    );
  }
  board.say(`${reason}: using the development server of ${cli}`);
  return { cli };
}

/**
 * What is there soonest: the programs that were compiled before, else the `temporal` command, which is fetched where it is missing. They
 * are compiled only when there is no other way.
 */
export async function soonestTemporal(home: string, board: Board): Promise<TemporalBinaries> {
  return areCompiled(home) ? pathsIn(join(home, 'temporal/bin')) : lightTemporal(home, board);
}

/** The `temporal` command, which takes a sixth less of the processor than programs on PostgreSQL; they are compiled where it can not be had. */
export async function lightTemporal(home: string, board: Board): Promise<TemporalBinaries> {
  const cli = await ensureCommand(home, board);
  return cli === undefined ? ensureTemporalBinaries(home, board) : { cli };
}

/** Whether the programs were compiled before. */
export const areCompiled = (home: string): boolean => isBuilt(join(home, 'temporal/bin'), pinnedVersionsHash());

/** Builds beside the final place and moves the whole directory, so that a broken build is never used. */
async function build(go: Go, bin: string, stamp: string, board: Board): Promise<void> {
  const unfinished = `${bin}.new`;
  rmSync(unfinished, { recursive: true, force: true });
  mkdirSync(unfinished, { recursive: true });
  board.say('  compiling Temporal from its Go modules (once; four to five minutes on two cores)');
  const part = board.begin('Temporal compiled', { seconds: BUILD_SECONDS });
  try {
    for (const [name, goPackage] of Object.entries(PACKAGES)) {
      await run(go, ['build', ...BUILD_FLAGS, '-o', join(unfinished, name), goPackage]);
    }
  } catch (error) {
    part.drop();
    throw error;
  }
  await writeFile(join(unfinished, 'stamp'), stamp);
  rmSync(`${bin}.old`, { recursive: true, force: true });
  if (existsSync(bin)) await rename(bin, `${bin}.old`);
  await rename(unfinished, bin);
  rmSync(`${bin}.old`, { recursive: true, force: true });
  part.end();
}

function run({ command, env }: Go, args: readonly string[]): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd: moduleDir, env, stdio: ['ignore', 'ignore', 'pipe'] });
    const stopWithUs = () => child.kill();
    process.once('exit', stopWithUs);
    let output = '';
    child.stderr.on('data', (chunk: Buffer) => {
      output = (output + chunk.toString()).slice(-4000);
    });
    child.once('error', reject);
    child.once('close', (code) => {
      process.removeListener('exit', stopWithUs);
      if (code === 0) resolve();
      else reject(new Error(`compiling Temporal failed: ${output.trim().split('\n').slice(-5).join('; ')}`));
    });
  });
}

/**
 * Waits for an exclusive lock on a file. The `flock` command locks the open file that it shares with this process, so
 * the kernel releases the lock when this process closes the file or dies.
 */
async function lockFile(path: string): Promise<() => void> {
  const descriptor = openSync(path, 'a', 0o600);
  await new Promise<void>((resolve, reject) => {
    const flock = spawn('flock', ['--exclusive', '3'], { stdio: ['ignore', 'ignore', 'ignore', descriptor] });
    flock.once('error', reject);
    flock.once('exit', (code) => (code === 0 ? resolve() : reject(new Error(`flock ended with exit code ${code}`))));
  });
  return () => closeSync(descriptor);
}
