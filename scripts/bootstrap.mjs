#!/usr/bin/env node
/**
 * Makes a fresh clone runnable: fetches a Node where the machine's is too old, installs the packages that package-lock.json names, then
 * writes the code that is made from the model. Does nothing, within 50 ms, when all is up to date. Needs any Node alone, so it runs before
 * anything is installed.
 *
 * `npm run demo`, `npm test` and `npm run bench` begin with it; `node scripts/bootstrap.mjs` runs it by itself, and
 * `node scripts/bootstrap.mjs <program> …` runs a TypeScript program of the project behind it.
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
import { ensureNode, isNewEnough, nodeEnvironment } from '../runtime/node.mjs';
import { openBoard, relay } from '../runtime/progress.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
/** The oldest that the packages' own installation bears (Prisma's refuses others). */
const OLDEST_NODE_OF_PACKAGES = [20, 19];
/** Seconds on two cores with nothing in npm's cache; shown until it is known how far the packages are. */
const PACKAGES_SECONDS = 40;
/** Below the checkout and not below BELAY_HOME: what two runs must not write at the same time lies in the checkout. */
const lockPath = join(root, '.belay/bootstrap.lock');
const logFolder = join(root, '.belay/logs');
const stampsPath = join(root, 'generated/inputs.json');

/** In this order, because each reads what the one before has written. */
const generators = [
  {
    output: 'prisma/schema.prisma',
    inputs: ['model', 'prisma/tables.prisma', 'scripts/generate-schema.ts'],
    argv: ['scripts/generate-schema.ts'],
  },
  {
    output: 'generated/tables.ts',
    inputs: ['model', 'prisma/tables.prisma', 'scripts/generate-tables.ts'],
    argv: ['scripts/generate-tables.ts'],
    // Nothing that runs reads types.
    tests: true,
  },
  {
    output: 'generated/prisma/client.ts',
    inputs: ['prisma/schema.prisma', 'prisma.config.ts', 'package-lock.json'],
    argv: ['node_modules/prisma/build/index.js', 'generate'],
  },
  {
    output: 'generated/workflows.ts',
    inputs: ['workflows', 'scripts/generate-workflows.ts'],
    argv: ['scripts/generate-workflows.ts'],
  },
  {
    output: 'generated/steps.ts',
    inputs: ['activities', 'scripts/generate-steps.ts'],
    argv: ['scripts/generate-steps.ts'],
  },
  {
    output: 'generated/cli.mjs',
    inputs: ['model', 'api/openapi.ts', 'runtime/problem.ts', 'cli', 'scripts/generate-client.ts', 'package-lock.json'],
    argv: ['scripts/generate-client.ts'],
  },
  {
    output: 'generated/api.ts',
    inputs: ['generated/openapi.json', 'scripts/generate-types.ts', 'package-lock.json'],
    argv: ['scripts/generate-types.ts'],
    // Nothing that runs reads types.
    tests: true,
  },
];

/**
 * Installs and generates what is missing or out of date, and answers the Node that runs the project. Two at once do it once: the second
 * waits for the first.
 *
 * Throws one line that says what to do.
 * @param {import('../runtime/progress.mjs').Board} board
 * @param {{ tests?: boolean, meanwhile?: string[] }} options `tests: false` leaves out the packages that only tests need; `meanwhile` is a
 *   program of the project that needs no packages, with its arguments, run beside their installation when something is installed
 */
export async function prepare(board, { tests = true, meanwhile } = {}) {
  if (process.platform !== 'linux') throw new Error(`Belay runs on Linux; this is ${process.platform}`);
  const wanted = generators.filter((generator) => tests || !generator.tests);
  const isPrepared = isInstalled(tests) && !wanted.some(isOutdated);
  const besides = (node) => (meanwhile ? runBeside(node, meanwhile, board) : undefined);
  if (isPrepared) {
    const node = await ensureNode(board.begin);
    await besides(node);
    return node;
  }
  const release = await lock(board.say);
  try {
    const fetched = ensureNode(board.begin);
    const beside = fetched.then(besides);
    // Whoever fails first is told; the others are awaited all the same.
    const [node] = await all([fetched, installPackages(board, tests, fetched), beside]);
    for (const generator of wanted) {
      if (!isOutdated(generator)) continue;
      const part = board.begin(`${generator.output} written`, { seconds: 4 });
      try {
        await generate(generator, node);
      } catch (error) {
        part.drop();
        throw error;
      }
      part.end();
    }
    return node;
  } finally {
    release();
  }
}

async function all(works) {
  const results = await Promise.allSettled(works);
  const failed = results.find(({ status }) => status === 'rejected');
  if (failed) throw failed.reason;
  return results.map(({ value }) => value);
}

/** What it could not do it has said, and whoever needs it tries again. */
async function runBeside(node, [program, ...args], board) {
  const options = { cwd: root, stdio: ['ignore', 'inherit', 'inherit', 'ipc'] };
  await new Promise((resolve) => {
    const child = spawn(node, [program, ...args], options);
    relay(child, board);
    child.once('error', resolve);
    child.once('close', resolve);
  });
}

/**
 * Prepares, then runs a TypeScript program of the project in this terminal and ends as it ends: same signal, same exit code.
 * @param {string} program path from the project's root
 * @param {{ args?: string[], tests?: boolean, meanwhile?: string[], whenUnprepared?: () => void }} [options] `whenUnprepared` is called
 *   after the reason was printed, when preparing has failed
 */
export async function launch(program, { args = process.argv.slice(2), whenUnprepared, ...options } = {}) {
  let node;
  try {
    node = await prepare(openBoard(), options);
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    whenUnprepared?.();
    process.exitCode = 1;
    return;
  }
  const env = { ...nodeEnvironment, ...process.env };
  const { code, signal } = await run(node, [program, ...args], { stdio: 'inherit', env });
  process.exitCode = signal === null ? code : 128 + constants.signals[signal];
}

/**
 * Whether node_modules holds what package-lock.json asks for. npm writes its own record of what it has installed when it is
 * done, so neither an interrupted installation nor one that was made by hand is taken for something else.
 */
function isInstalled(tests) {
  return wantedPackages(tests).every(([path, { version }]) => recordedPackages()[path]?.version === version);
}

const packagesIn = (path) => JSON.parse(readFileSync(join(root, path), 'utf8')).packages;
let recorded;
function recordedPackages() {
  const path = 'node_modules/.package-lock.json';
  recorded ??= existsSync(join(root, path)) ? packagesIn(path) : {};
  return recorded;
}

/** Optional packages are mostly those of other platforms; they change together with the package that wants them. */
const wantedPackages = (tests) =>
  Object.entries(packagesIn('package-lock.json')).filter(
    ([path, { optional, dev }]) => path !== '' && !optional && (tests || !dev),
  );

async function installPackages(board, tests, fetchedNode) {
  if (isInstalled(tests)) return;
  // An older one at hand waits for the pinned one; npm runs on the first Node of the path.
  const node = isNewEnough(process.versions.node, OLDEST_NODE_OF_PACKAGES) ? process.execPath : await fetchedNode;
  const wanted = wantedPackages(tests);
  const part = board.begin('packages installed', { seconds: PACKAGES_SECONDS });
  const there = () => wanted.filter(([path]) => existsSync(join(root, path, 'package.json'))).length;
  const look = setInterval(() => part.at(there() / wanted.length), 1_000);
  // What runs from a checkout must not lose its packages when those of the tests are added: npm ci would take all away first.
  const fresh = !isInstalled(false);
  // The test tools are needed even where NODE_ENV=production leaves them out. Prisma would download an engine that is not used here.
  const args = [fresh ? 'ci' : 'install', ...(fresh ? [] : ['--no-save']), tests ? '--include=dev' : '--omit=dev'];
  const npm = (...more) =>
    runLogged('npm ci', 'npm', [...args, '--no-audit', '--no-fund', ...more], {
      PATH: `${dirname(node)}:${process.env.PATH}`,
      PRISMA_SCHEMA_ENGINE_BINARY: '/bin/true',
      // One of the packages would count its installations.
      SCARF_ANALYTICS: 'false',
    });
  try {
    // What npm's cache knows of a package is not asked for again: the lock file pins versions, and each question costs as much as a package. What it
    // knows may be too old to know of a pinned version.
    await npm('--prefer-offline').catch((error) => {
      if (!error.message.includes('npm error notarget')) throw error;
      return npm();
    });
  } catch (error) {
    part.drop();
    throw error;
  } finally {
    clearInterval(look);
  }
  recorded = undefined;
  part.end(`${there()}`);
}

function isOutdated(generator) {
  return !existsSync(join(root, generator.output)) || readStamps()[generator.output] !== hashOf(generator);
}

async function generate(generator, node) {
  const { output, argv } = generator;
  // Taken before: what is edited meanwhile is generated again next time.
  const hash = hashOf(generator);
  await runLogged(output, node, argv, { CHECKPOINT_DISABLE: '1', PRISMA_HIDE_UPDATE_MESSAGE: '1' });
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
  const [program, ...args] = process.argv.slice(2);
  if (program !== undefined) await launch(program, { args });
  else
    await prepare(openBoard()).catch((error) => {
      console.error(error instanceof Error ? error.message : error);
      process.exitCode = 1;
    });
}
