#!/usr/bin/env node
/**
 * Makes a fresh clone runnable: installs the packages that package-lock.json names, then writes the code that is made from the
 * model. Does nothing, within 50 ms, when both are up to date. Needs Node alone, so it runs before any package is installed.
 *
 * `npm run demo`, `npm test` and `npm run bench` begin with it; `node scripts/bootstrap.mjs` runs it by itself.
 */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { constants } from 'node:os';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const OLDEST_NODE = [20, 11];
/** Below the checkout and not below BELAY_HOME: what two runs must not write at the same time lies in the checkout. */
const lockPath = join(root, '.belay/bootstrap.lock');
const logFolder = join(root, '.belay/logs');
const stampsPath = join(root, 'generated/inputs.json');

/** In this order, because each reads what the one before has written. */
const generators = [
  {
    output: 'prisma/schema.prisma',
    inputs: ['model', 'prisma/tables.prisma', 'scripts/generate-schema.ts'],
    argv: ['--import', 'tsx', 'scripts/generate-schema.ts'],
  },
  {
    output: 'generated/prisma/client.ts',
    inputs: ['prisma/schema.prisma', 'prisma.config.ts', 'package-lock.json'],
    argv: ['node_modules/prisma/build/index.js', 'generate'],
  },
  {
    output: 'generated/cli.mjs',
    inputs: ['model', 'api/openapi.ts', 'runtime/problem.ts', 'cli', 'scripts/generate-client.ts', 'package-lock.json'],
    argv: ['--import', 'tsx', 'scripts/generate-client.ts'],
  },
];

/**
 * Installs and generates what is missing or out of date. Two at once do it once: the second waits for the first.
 *
 * Throws one line that says what to do.
 * @param {{ log(line: string): void }} options gets one line per step, with its seconds
 */
export async function prepare({ log }) {
  refuseUnknownMachine();
  if (isInstalled() && !generators.some(isOutdated)) return;
  const release = await lock(log);
  try {
    if (!isInstalled()) await timed('packages installed', log, installPackages);
    for (const generator of generators) {
      if (isOutdated(generator)) await timed(`${generator.output} written`, log, () => generate(generator));
    }
  } finally {
    release();
  }
}

/**
 * Prepares, then runs a TypeScript program of the project in this terminal and ends as it ends: same signal, same exit code.
 * @param {string} program path from the project's root
 * @param {{ whenUnprepared?: () => void }} [options] called after the reason was printed, when preparing has failed
 */
export async function launch(program, { whenUnprepared } = {}) {
  const args = process.argv.slice(2);
  try {
    await prepare({ log: (line) => console.log(line) });
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    whenUnprepared?.();
    process.exitCode = 1;
    return;
  }
  const { code, signal } = await run(process.execPath, ['--import', 'tsx', program, ...args], { stdio: 'inherit' });
  process.exitCode = signal === null ? code : 128 + constants.signals[signal];
}

function refuseUnknownMachine() {
  if (process.platform !== 'linux') throw new Error(`Belay runs on Linux; this is ${process.platform}`);
  const [major, minor] = process.versions.node.split('.').map(Number);
  const [oldestMajor, oldestMinor] = OLDEST_NODE;
  if (major < oldestMajor || (major === oldestMajor && minor < oldestMinor))
    throw new Error(`Belay needs Node.js ${OLDEST_NODE.join('.')} or newer; this is ${process.versions.node}`);
}

/**
 * Whether node_modules holds what package-lock.json asks for. npm writes its own record of what it has installed when it is
 * done, so neither an interrupted installation nor one that was made by hand is taken for something else.
 */
function isInstalled() {
  const record = join(root, 'node_modules/.package-lock.json');
  if (!existsSync(record)) return false;
  const { packages: installed } = JSON.parse(readFileSync(record, 'utf8'));
  const { packages: wanted } = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8'));
  // Optional packages are mostly those of other platforms; they change together with the package that wants them.
  return Object.entries(wanted).every(
    ([path, { version, optional }]) => path === '' || optional || installed[path]?.version === version,
  );
}

async function installPackages() {
  // The test tools are needed even where NODE_ENV=production leaves them out. Prisma would download an engine that is not used here.
  const args = ['ci', '--include=dev', '--no-audit', '--no-fund'];
  await runLogged('npm ci', 'npm', args, { PRISMA_SCHEMA_ENGINE_BINARY: '/bin/true' });
}

function isOutdated(generator) {
  return !existsSync(join(root, generator.output)) || readStamps()[generator.output] !== hashOf(generator);
}

async function generate(generator) {
  const { output, argv } = generator;
  // Taken before: what is edited meanwhile is generated again next time.
  const hash = hashOf(generator);
  await runLogged(output, process.execPath, argv, { CHECKPOINT_DISABLE: '1', PRISMA_HIDE_UPDATE_MESSAGE: '1' });
  mkdirSync(dirname(stampsPath), { recursive: true });
  writeFileSync(stampsPath, `${JSON.stringify({ ...readStamps(), [output]: hash }, null, 2)}\n`);
}

function readStamps() {
  try {
    return JSON.parse(readFileSync(stampsPath, 'utf8'));
  } catch {
    return {};
  }
}

function hashOf({ inputs, argv }) {
  const hash = createHash('sha256').update(JSON.stringify(argv));
  for (const path of inputs.flatMap((input) => filesBelow(join(root, input)))) {
    const content = readFileSync(path);
    hash.update(`${relative(root, path)} ${content.length}\n`).update(content);
  }
  return hash.digest('hex');
}

function filesBelow(path) {
  if (!statSync(path).isDirectory()) return [path];
  return readdirSync(path)
    .sort()
    .flatMap((name) => filesBelow(join(path, name)));
}

async function timed(what, log, work) {
  const started = performance.now();
  await work();
  log(`${what.padEnd(34)} ${((performance.now() - started) / 1000).toFixed(1)} s`);
}

/** Runs a program whose output is worth reading only when it fails. */
async function runLogged(name, command, args, env) {
  mkdirSync(logFolder, { recursive: true });
  const logFile = join(logFolder, `${name.replaceAll(/[^\w.]+/g, '-')}.log`);
  const descriptor = openSync(logFile, 'w');
  let ended;
  try {
    ended = await run(command, args, { stdio: ['ignore', descriptor, descriptor], env: { ...process.env, ...env } });
  } finally {
    closeSync(descriptor);
  }
  if (ended.code === 0) return;
  const how = ended.signal ?? `exit code ${ended.code}`;
  const said = /^(?:npm error (?!code)|\w*Error: ).*/m.exec(readFileSync(logFile, 'utf8'))?.[0];
  throw new Error(
    `${name} failed with ${how}${said ? `: ${said}` : ''}; all it said is in ${relative(process.cwd(), logFile)}`,
  );
}

/**
 * Runs a program from the project's root. Signals that ask this process to end are passed on to it, and waited for.
 * @returns {Promise<{ code: number | null, signal: NodeJS.Signals | null }>}
 */
function run(command, args, options) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd: root, ...options });
    // Ctrl-C in a terminal has reached the program as well; a second one would mean "at once".
    const passOn = (signal) => {
      if (signal !== 'SIGINT' || !process.stdin.isTTY) child.kill(signal);
    };
    const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'];
    for (const signal of signals) process.on(signal, passOn);
    const settle = () => {
      for (const signal of signals) process.removeListener(signal, passOn);
    };
    child.once('error', (error) => {
      settle();
      reject(new Error(`${command} could not be started: ${error.message}`));
    });
    child.once('close', (code, signal) => {
      settle();
      resolve({ code, signal });
    });
  });
}

/**
 * Waits for the lock of this checkout. The `flock` command locks the open file that it shares with this process, so the kernel
 * gives the lock back when this process ends, however it ends; the process id in the file is for the waiting one to read.
 */
async function lock(log) {
  mkdirSync(dirname(lockPath), { recursive: true });
  const descriptor = openSync(lockPath, 'a+', 0o600);
  const flock = (...args) => run('flock', [...args, '3'], { stdio: ['ignore', 'ignore', 'ignore', descriptor] });
  if ((await flock('-n')).code !== 0) {
    log(`waiting for process ${readFileSync(lockPath, 'utf8')}, which prepares this checkout`);
    const { code, signal } = await flock('-x');
    if (code !== 0) throw new Error(`flock ended with ${signal ?? `exit code ${code}`}`);
  }
  writeFileSync(lockPath, String(process.pid));
  return () => closeSync(descriptor);
}

if (process.argv[1] !== undefined && resolve(process.argv[1]) === fileURLToPath(import.meta.url)) {
  try {
    await prepare({ log: (line) => console.log(line) });
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    process.exitCode = 1;
  }
}
