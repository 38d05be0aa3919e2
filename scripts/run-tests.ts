/**
 * `npm test`: everything that is checked, in one run: types, lint, imports, the API's document, then the tests by what they prove. The last line is
 * `N passed, N failed`, and `, N skipped` where something was skipped.
 *
 * `npm test -- unit lab` runs some parts. What follows the parts goes to Vitest: `npm test -- sim test/sim/quota.test.ts -t project`.
 */
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { stripVTControlCharacters } from 'node:util';
import { downLab, leftovers } from '../lab/real/lab.ts';
import { ensurePackages, isDebian12 } from '../lab/real/packages.ts';
import { bundleWorkflows } from '../lab/stack.ts';
import { fetchNode } from '../runtime/node.mjs';
import { boardOf } from '../runtime/progress.mjs';
import { testHome } from '../vitest.config.ts';

const root = fileURLToPath(new URL('..', import.meta.url));

interface Counts {
  passed: number;
  failed: number;
  skipped: number;
  /** What failed, with the first lines of why: said once more at the end, where hours of output do not hide it. */
  failures?: readonly string[];
}

const nothing: Counts = { passed: 0, failed: 0, skipped: 0 };
const onePassed: Counts = { ...nothing, passed: 1 };
const oneFailed: Counts = { ...nothing, failed: 1 };
const sum = (a: Counts, b: Counts): Counts => ({
  passed: a.passed + b.passed,
  failed: a.failed + b.failed,
  skipped: a.skipped + b.skipped,
  failures: [...(a.failures ?? []), ...(b.failures ?? [])],
});

const MINUTE_MS = 60_000;
const CHECK_LIMIT_MS = 10 * MINUTE_MS;
/** For Vitest to end its workers, and for the servers it has started to end with it. */
const END_LIMIT_MS = 20_000;

const checks = {
  types: [['node_modules/typescript/bin/tsc', '--noEmit']],
  lint: [['node_modules/@biomejs/biome/bin/biome', 'check', '--error-on-warnings', '.']],
  imports: [['node_modules/dependency-cruiser/bin/dependency-cruise.mjs', '--config', '.dependency-cruiser.cjs', '.']],
  // Two readers of the API's document, each with all its rules: redocly.yaml, .spectral.yaml.
  openapi: [
    ['node_modules/@redocly/cli/bin/cli.js', 'lint', 'generated/openapi.json'],
    ['node_modules/@stoplight/spectral-cli/dist/index.js', 'lint', '--fail-severity=hint', 'generated/openapi.json'],
  ],
} as const;
/** They would ask for newer versions of themselves, and tell of their use. */
const quiet = { REDOCLY_TELEMETRY: 'off', REDOCLY_SUPPRESS_UPDATE_NOTICE: 'true' };

/** The projects of vitest.config.ts, and how long each may take in all before it counts as hung. */
const projects = {
  unit: 15 * MINUTE_MS,
  files: 15 * MINUTE_MS,
  database: 15 * MINUTE_MS,
  history: 15 * MINUTE_MS,
  sim: 60 * MINUTE_MS,
  network: 60 * MINUTE_MS,
  operations: 60 * MINUTE_MS,
  hosts: 60 * MINUTE_MS,
  hostOperations: 60 * MINUTE_MS,
  rollback: 60 * MINUTE_MS,
  kill: 60 * MINUTE_MS,
  faults: 60 * MINUTE_MS,
  lab: 120 * MINUTE_MS,
} as const;

type Check = keyof typeof checks;
type Project = keyof typeof projects;
/** `nodes`: what needs no servers, once more on the other Node that the project runs on. */
type Part = Check | Project | 'nodes';

/**
 * Chains run side by side, each part of a chain after the one before. So many chains leave no part of the machine idle while tests wait for leases,
 * time-outs and guests that boot. The lab, which takes its time however much of the machine it gets, begins at once.
 */
const chains: readonly (readonly Part[])[] = [
  ['lab', 'nodes', 'database'],
  ['types', 'lint', 'imports', 'openapi', 'history', 'rollback', 'network'],
  ['unit', 'files', 'kill', 'faults'],
  ['hostOperations', 'sim'],
  ['hosts', 'operations'],
];
const parts: readonly Part[] = chains.flat();
const isPart = (word: string): word is Part => (parts as readonly string[]).includes(word);
const isCheck = (part: Part): part is Check => part in checks;

let interruptedBy: NodeJS.Signals | undefined;

interface RunOptions {
  node?: string;
  env?: NodeJS.ProcessEnv;
  /** Whether the lab, where it is tested too, comes first where both want the processor. */
  givesWay?: boolean;
}

interface Ended {
  /** Why it did not end well; undefined when it ended with exit code 0. */
  problem: string | undefined;
  output: string;
}

/** What runs beside the lab has so much of the processor where the lab wants it, of 1024. A guest that boots on a busy machine is so slow that what is to happen meanwhile comes too late. */
const besideLab = { group: '/sys/fs/cgroup/cpu/belay-tests', share: 256 };

/** Where this can not be said, all have the same share. */
function giveWayToLab(pid: number | undefined): void {
  try {
    mkdirSync(besideLab.group, { recursive: true });
    writeFileSync(join(besideLab.group, 'cpu.shares'), String(besideLab.share));
    writeFileSync(join(besideLab.group, 'cgroup.procs'), String(pid));
  } catch {}
}

/** Its processes take a moment to be gone after they have ended. */
async function endGivingWay(): Promise<void> {
  for (let tries = 1; existsSync(besideLab.group) && tries <= 50; tries++) {
    try {
      return rmdirSync(besideLab.group);
    } catch {
      await pause(100);
    }
  }
}

/** Runs one of Node's programs from the project's root, showing its output or returning it. A signal to this process ends it. */
function runNode(
  argv: readonly string[],
  limitMs: number,
  show: boolean,
  { node = process.execPath, env = {}, givesWay = false }: RunOptions = {},
): Promise<Ended> {
  return new Promise((resolve) => {
    const child = spawn(node, argv, {
      cwd: root,
      env: { ...quiet, ...process.env, ...env },
      stdio: ['ignore', show ? 'inherit' : 'pipe', show ? 'inherit' : 'pipe'],
    });
    if (givesWay && asked.includes('lab')) giveWayToLab(child.pid);
    const chunks: Buffer[] = [];
    child.stdout?.on('data', (chunk: Buffer) => chunks.push(chunk));
    child.stderr?.on('data', (chunk: Buffer) => chunks.push(chunk));

    let isLate = false;
    let killTimer: NodeJS.Timeout | undefined;
    const end = (): void => {
      child.kill('SIGTERM');
      killTimer ??= setTimeout(() => child.kill('SIGKILL'), END_LIMIT_MS);
    };
    const limit = setTimeout(() => {
      isLate = true;
      end();
    }, limitMs);
    const interrupt = (signal: NodeJS.Signals): void => {
      interruptedBy ??= signal;
      end();
    };
    const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
    for (const signal of signals) process.on(signal, interrupt);

    const settle = (problem: string | undefined): void => {
      clearTimeout(limit);
      clearTimeout(killTimer);
      for (const signal of signals) process.removeListener(signal, interrupt);
      resolve({ problem, output: Buffer.concat(chunks).toString() });
    };
    child.once('error', (error) => settle(`could not be started: ${error.message}`));
    child.once('close', (code, signal) => {
      if (isLate) settle(`took longer than ${limitMs / MINUTE_MS} minutes`);
      else settle(code === 0 ? undefined : `ended with ${signal ?? `exit code ${code}`}`);
    });
  });
}

async function runCheck(check: Check): Promise<Counts> {
  for (const argv of checks[check]) {
    const { problem, output } = await runNode(argv, CHECK_LIMIT_MS, false, { givesWay: true });
    if (problem === undefined) continue;
    console.log(`${output.trimEnd()}\n${check}: ${problem}`);
    return oneFailed;
  }
  return onePassed;
}

/** The part of Vitest's JSON report that is read here. */
interface VitestReport {
  numPassedTests: number;
  numFailedTests: number;
  numPendingTests: number;
  numTodoTests: number;
  /** One per file. */
  testResults: {
    name: string;
    status: string;
    /** Why the file could not be loaded. */
    message: string;
    assertionResults: { status: string; fullName: string; failureMessages?: string[] }[];
  }[];
}

const FAILURE_LINES = 12;

/** The first lines of what a test or a file says of its failure, below its name. */
function failureText(file: string, name: string, messages: readonly string[]): string {
  const lines = stripVTControlCharacters(messages.join('\n')).trim().split('\n').slice(0, FAILURE_LINES);
  return [`${relative(root, file)}${name === '' ? '' : ` > ${name}`}`, ...lines.map((line) => `  ${line}`)].join('\n');
}

function countsOf(reportPath: string): Counts {
  if (!existsSync(reportPath)) return nothing;
  const report = JSON.parse(readFileSync(reportPath, 'utf8')) as VitestReport;
  // A file that could not be loaded, or whose hooks failed, has no failed test of its own.
  const brokenFiles = report.testResults.filter(
    ({ status, assertionResults }) => status === 'failed' && !assertionResults.some((test) => test.status === 'failed'),
  );
  return {
    passed: report.numPassedTests,
    failed: report.numFailedTests + brokenFiles.length,
    skipped: report.numPendingTests + report.numTodoTests,
    failures: [
      ...brokenFiles.map(({ name, message }) => failureText(name, '', [message])),
      ...report.testResults.flatMap(({ name, assertionResults }) =>
        assertionResults
          .filter(({ status }) => status === 'failed')
          .map(({ fullName, failureMessages }) => failureText(name, fullName, failureMessages ?? [])),
      ),
    ],
  };
}

interface VitestRun {
  /** What goes to Vitest: files, `-t <name>`, … */
  args: readonly string[];
  /** Show its output as it comes, not at its end. */
  show?: boolean;
}

async function runVitest(project: Project, { args, show = true }: VitestRun): Promise<Counts> {
  const reportPath = join(testHome, `${project}.json`);
  mkdirSync(testHome, { recursive: true });
  rmSync(reportPath, { force: true });
  const argv = ['node_modules/vitest/vitest.mjs', 'run', '--project', project];
  argv.push('--reporter=json', `--outputFile.json=${reportPath}`);
  argv.push('--reporter=default', ...args);
  const ended = await runNode(argv, projects[project], show, { givesWay: project !== 'lab' });
  if (!show) console.log(`\n── ${project}\n${ended.output.trimEnd()}`);
  const counts = countsOf(reportPath);
  if (ended.problem === undefined || counts.failed > 0) return counts;
  // Errors outside of tests, a set-up or a clean-up that failed, a crash: no test says so.
  console.log(`${project}: Vitest ${ended.problem}`);
  return sum(counts, oneFailed);
}

const CAP_NET_ADMIN = 12n;
const CAP_SYS_ADMIN = 21n;

/** Why real hosts can not be made here; undefined when they can. */
function labObstacle(): string | undefined {
  if (!isDebian12()) return 'needs Debian 12, whose packages of libvirt, Ceph and OVN it is made of';
  if (process.getuid?.() !== 0) return 'needs root, to make network and mount namespaces';
  const [, effective = '0'] = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'utf8')) ?? [];
  const has = (capability: bigint): boolean => ((BigInt(`0x${effective}`) >> capability) & 1n) === 1n;
  return has(CAP_NET_ADMIN) && has(CAP_SYS_ADMIN)
    ? undefined
    : 'needs the capabilities CAP_NET_ADMIN and CAP_SYS_ADMIN, which this container withholds';
}

/** How many tests the files of a part hold, without running them: their set-up needs what is not there. */
function testsIn(project: Project): number {
  const folder = join(root, 'test', project);
  const files = existsSync(folder) ? readdirSync(folder).filter((file) => file.endsWith('.test.ts')) : [];
  return files.reduce(
    (sum, file) => sum + (readFileSync(join(folder, file), 'utf8').match(/^\s*test\(/gm)?.length ?? 0),
    0,
  );
}

async function runLab(run: VitestRun): Promise<Counts> {
  const obstacle = labObstacle();
  if (obstacle !== undefined) {
    console.log(`lab: skipped, because it ${obstacle}`);
    return { ...nothing, skipped: testsIn('lab') };
  }
  return sum(await runVitest('lab', run), await leavesNothing());
}

/** The promise that no process, namespace, link or mount outlives the lab's tests; what does is reported, then removed. */
async function leavesNothing(): Promise<Counts> {
  const left = await leftovers(testHome);
  if (left.length === 0) return onePassed;
  console.log(`lab: the tests have left behind:\n${left.map((one) => `  ${one}`).join('\n')}`);
  await downLab(testHome).catch((error: unknown) => console.log(error instanceof Error ? error.message : error));
  return oneFailed;
}

/** The tests without servers on the pinned Node of the other major version; skipped, with the reason, where it can not be had. */
async function runOnOtherNode(): Promise<Counts> {
  const running = process.versions.node.split('.')[0];
  const major = (['22', '24'] as const).find((candidate) => candidate !== running) ?? '22';
  let node: string;
  try {
    node = await fetchNode(major);
  } catch (error) {
    console.log(`nodes: skipped: ${error instanceof Error ? error.message : String(error)}`);
    return { ...nothing, skipped: 1 };
  }
  const argv = ['node_modules/vitest/vitest.mjs', 'run', '--project', 'unit', '--project', 'history', '--reporter=dot'];
  const { problem, output } = await runNode(argv, projects.unit, false, {
    node,
    env: { BELAY_NODE: major },
    givesWay: true,
  });
  if (problem === undefined) return onePassed;
  console.log(`${output.trimEnd()}\nnodes: on Node ${major}, Vitest ${problem}`);
  return oneFailed;
}

function hasTests(project: Project): boolean {
  const folder = join(root, 'test', project);
  return (
    existsSync(folder) && readdirSync(folder, { recursive: true }).some((file) => String(file).endsWith('.test.ts'))
  );
}

async function runPart(part: Part, args: readonly string[], show: boolean): Promise<Counts> {
  if (isCheck(part)) return runCheck(part);
  if (part === 'nodes') return runOnOtherNode();
  if (!hasTests(part)) return nothing;
  return part === 'lab' ? runLab({ args, show }) : runVitest(part, { args, show });
}

const textOf = ({ passed, failed, skipped }: Counts): string =>
  `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`;

/** Splits `unit sim -t name` into parts and what goes to Vitest; a file alone is in the part that its folder names. */
function chosen(words: readonly string[]): { asked: readonly Part[]; args: readonly string[] } {
  const firstOther = words.findIndex((word) => !isPart(word));
  const named = (firstOther === -1 ? words : words.slice(0, firstOther)).filter(isPart);
  const args = firstOther === -1 ? [] : words.slice(firstOther);
  if (named.length > 0) return { asked: parts.filter((part) => named.includes(part)), args };
  if (args.length === 0) return { asked: parts, args };
  const ofFiles = args.map((word) => /^(?:\.\/)?test\/(\w+)\//.exec(word)?.[1] ?? '').filter(isPart);
  return { asked: parts.filter((part) => ofFiles.includes(part)), args };
}

const { asked, args } = chosen(process.argv.slice(2));
if (asked.length === 0) {
  console.error(`usage: npm test -- [${parts.join(' | ')} …] [file …] [options of vitest]`);
  process.exit(2);
}

let total = nothing;
const summary: string[] = [];

async function runAndCount(part: Part, show: boolean): Promise<void> {
  const started = performance.now();
  if (show) console.log(`\n── ${part}`);
  const counts = await runPart(part, args, show).catch((error: unknown) => {
    console.log(error);
    return oneFailed;
  });
  total = sum(total, counts);
  const line = `${part.padEnd(14)} ${((performance.now() - started) / 1000).toFixed(1).padStart(7)} s   ${textOf(counts)}`;
  summary.push(line);
  console.log(line);
}

async function inTurn(chain: readonly Part[], show: boolean): Promise<void> {
  for (const part of chain) {
    if (interruptedBy !== undefined) return;
    await runAndCount(part, show);
  }
}

// Parts before the lab's have tests with real programs, too, such as QEMU.
if (asked.includes('lab') && labObstacle() === undefined)
  await ensurePackages(boardOf(console.log)).catch((error: unknown) => console.log(String(error)));
/** Parts that start a control plane of their own. */
const withStacks: readonly Part[] = [
  'sim',
  'network',
  'operations',
  'hosts',
  'hostOperations',
  'rollback',
  'kill',
  'faults',
  'lab',
];
if (asked.filter((part) => withStacks.includes(part)).length > 1) {
  mkdirSync(testHome, { recursive: true });
  // The same workflows for all of them. Where they can not be built, each says so.
  process.env.BELAY_WORKFLOW_BUNDLE = await bundleWorkflows(testHome).catch(() => '');
}
const wanted = chains.map((chain) => chain.filter((part) => asked.includes(part))).filter(({ length }) => length > 0);
// Only one is seen as it goes, so that two do not write between one another's lines.
await Promise.all(wanted.map((chain, index) => inTurn(chain, index === 0)));
await endGivingWay();
if (interruptedBy !== undefined) {
  if (total.failed === 0) total = sum(total, oneFailed);
  summary.push(`ended by ${interruptedBy}`);
}
if (total.passed + total.failed === 0) summary.push('nothing was tested');
if (total.failures?.length) console.log(`\nfailed:\n\n${total.failures.join('\n\n')}`);
process.exitCode = total.failed > 0 || total.passed === 0 ? 1 : 0;
console.log(`\n${summary.join('\n')}\n\n${textOf(total)}`);
