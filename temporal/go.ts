/**
 * A Go that compiles the modules of this folder, wherever there is any Go: the one that go.mod asks for is itself a Go module, which
 * older ones fetch and check like any other. Debian's Go is enough to begin with.
 */
import { execFile } from 'node:child_process';
import { chmodSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { findOnPath } from './path.ts';

const execute = promisify(execFile);
const moduleDir = dirname(fileURLToPath(import.meta.url));
const COMMAND_LIMIT_MS = 15 * 60_000;
const OUTPUT_LIMIT_BYTES = 64 * 2 ** 20;

export interface Go {
  command: string;
  env: NodeJS.ProcessEnv;
}

export interface EnsureGoOptions {
  /** Whether Debian's package may be installed where there is no Go. */
  mayInstall: boolean;
  log(line: string): void;
}

/** Returns a Go that is new enough for go.mod. Throws one line that says why there is none. */
export async function ensureGo({ mayInstall, log }: EnsureGoOptions): Promise<Go> {
  const command = findOnPath('go') ?? (mayInstall ? await installDebianGo(log) : undefined);
  if (command === undefined) throw new Error('Go is not installed');
  // Which Go runs is decided here, not by the one that happens to be installed.
  const go: Go = { command, env: { ...process.env, GOTOOLCHAIN: 'local' } };
  const wanted = wantedVersion();
  const found = (await run(go.command, ['env', 'GOVERSION'], go.env)).trim().replace(/^go/, '');
  if (isAtLeast(found, wanted)) return go;
  log(`Go ${found} is installed and ${wanted} is needed: fetching it as a Go module (once; 80 MB)`);
  return fetchToolchain(go, wanted);
}

function wantedVersion(): string {
  const version = /^go (\d+\.\d+(?:\.\d+)?)$/m.exec(readFileSync(join(moduleDir, 'go.mod'), 'utf8'))?.[1];
  if (version === undefined) throw new Error('temporal/go.mod names no Go version');
  return version;
}

/** Compares versions such as `1.26.8` and `1.27rc1`; what is not a release, such as `devel`, is taken for old. */
function isAtLeast(found: string, wanted: string): boolean {
  const parts = (version: string): number[] => (/^\d+(?:\.\d+)*/.exec(version)?.[0] ?? '0').split('.').map(Number);
  const [foundParts, wantedParts] = [parts(found), parts(wanted)];
  for (let place = 0; place < 3; place++) {
    const difference = (foundParts[place] ?? 0) - (wantedParts[place] ?? 0);
    if (difference !== 0) return difference > 0;
  }
  return true;
}

/** The same module, in the same place of the module cache, that Go 1.21 and newer fetch by themselves when they are allowed to. */
async function fetchToolchain(go: Go, version: string): Promise<Go> {
  const architecture = process.arch === 'x64' ? 'amd64' : process.arch;
  const toolchain = `golang.org/toolchain@v0.0.1-go${version}.${process.platform}-${architecture}`;
  const answer = JSON.parse(await run(go.command, ['mod', 'download', '-json', toolchain], go.env)) as { Dir: string };
  const programs = [join(answer.Dir, 'bin'), join(answer.Dir, 'pkg/tool', `${process.platform}_${architecture}`)];
  // Modules carry no permissions.
  for (const folder of programs) for (const name of readdirSync(folder)) chmodSync(join(folder, name), 0o755);
  return { command: join(answer.Dir, 'bin/go'), env: { ...go.env, GOROOT: answer.Dir } };
}

/** Returns nothing where this may not or can not be done: not as root, or not on Debian or its like. */
async function installDebianGo(log: (line: string) => void): Promise<string | undefined> {
  const apt = findOnPath('apt-get');
  if (process.getuid?.() !== 0 || apt === undefined) return undefined;
  log("there is neither Go nor a Temporal command: installing Debian's package golang-go");
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive', APT_LISTCHANGES_FRONTEND: 'none' };
  // Another apt-get may be at work: wait for its lock instead of failing.
  const options = ['-qq', '-o', 'DPkg::Lock::Timeout=600'];
  await run(apt, [...options, 'update'], env);
  await run(apt, [...options, '-y', '--no-install-recommends', 'install', 'golang-go'], env);
  return findOnPath('go');
}

/** Runs a program away from any Go module, and returns what it prints. */
async function run(command: string, args: readonly string[], env: NodeJS.ProcessEnv): Promise<string> {
  const options = { cwd: '/', env, timeout: COMMAND_LIMIT_MS, maxBuffer: OUTPUT_LIMIT_BYTES };
  try {
    return (await execute(command, args, options)).stdout;
  } catch (error) {
    const { stdout = '', stderr = '' } = error as { stdout?: string; stderr?: string };
    const said = `${stdout}\n${stderr}`.trim().split('\n').slice(-5).join('; ');
    throw new Error(`"${[command, ...args].join(' ')}" failed: ${said || String(error)}`);
  }
}
