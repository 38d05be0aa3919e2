/**
 * The Temporal programs for one machine, compiled from the Go modules that `go.mod` and `go.sum` here pin:
 * server, schema tool and web page. Where there is no Go, a `temporal` command on the path serves instead.
 */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, rmSync } from 'node:fs';
import { rename, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ensureGo, findOnPath, type Go } from './go.ts';

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
const PROGRESS_INTERVAL_MS = 15_000;
const moduleDir = dirname(fileURLToPath(import.meta.url));

/**
 * Returns the paths of the Temporal programs, compiling them when `<home>/temporal/bin` does not hold the pinned
 * versions: about three minutes the first time on two cores, nothing afterwards. Two processes never compile at once.
 *
 * With neither Go nor the `temporal` command, root on Debian gets Debian's Go. Throws one line that says what to install otherwise.
 */
export async function ensureTemporalBinaries(home: string, log: (line: string) => void): Promise<TemporalBinaries> {
  const bin = join(home, 'temporal/bin');
  const stamp = pinnedVersionsHash();
  if (isBuilt(bin, stamp)) return pathsIn(bin);

  mkdirSync(join(home, 'temporal'), { recursive: true });
  const release = await lockFile(join(home, 'temporal/build.lock'));
  try {
    if (!isBuilt(bin, stamp)) {
      const go = await ensureGo({ mayInstall: findOnPath('temporal') === undefined, log });
      await build(go, bin, stamp, log);
    }
    return pathsIn(bin);
  } catch (error) {
    return cliOrThrow(error instanceof Error ? error.message : String(error), log);
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

function cliOrThrow(reason: string, log: (line: string) => void): CliBinary {
  const cli = findOnPath('temporal');
  if (cli === undefined) {
    throw new Error(
      `there is no Temporal server: ${reason}. Install Go (Debian's will do), put the "temporal" command on the PATH, or set BELAY_TEMPORAL_ADDRESS to a running Temporal Service`,
    );
  }
  log(`${reason}: using the development server of ${cli}`);
  return { cli };
}

/** Builds beside the final place and moves the whole directory, so that a broken build is never used. */
async function build(go: Go, bin: string, stamp: string, log: (line: string) => void): Promise<void> {
  const unfinished = `${bin}.new`;
  rmSync(unfinished, { recursive: true, force: true });
  mkdirSync(unfinished, { recursive: true });
  const startedAt = Date.now();
  const elapsedS = () => Math.round((Date.now() - startedAt) / 1000);
  log('compiling Temporal from its Go modules (once; about 3 minutes on two cores)');
  const progress = setInterval(() => log(`compiling Temporal … ${elapsedS()} s`), PROGRESS_INTERVAL_MS);
  try {
    for (const [name, goPackage] of Object.entries(PACKAGES)) {
      await run(go, ['build', ...BUILD_FLAGS, '-o', join(unfinished, name), goPackage]);
    }
  } finally {
    clearInterval(progress);
  }
  await writeFile(join(unfinished, 'stamp'), stamp);
  rmSync(`${bin}.old`, { recursive: true, force: true });
  if (existsSync(bin)) await rename(bin, `${bin}.old`);
  await rename(unfinished, bin);
  rmSync(`${bin}.old`, { recursive: true, force: true });
  log(`compiled Temporal in ${elapsedS()} s`);
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
