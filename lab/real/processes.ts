import { spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { labMark, namespacePrefix, partMark } from './layout.ts';

/** System programs only: another Python or another qemu earlier on the caller's path would not have the bindings the lab needs. */
const systemPath = '/usr/sbin:/usr/bin:/sbin:/bin';

export interface RunOptions {
  input?: string | Buffer;
  env?: Record<string, string>;
  cwd?: string;
  timeoutMs?: number;
  /** Told what it prints, as it prints it. */
  onOutput?: (text: string) => void;
}

export interface RunResult {
  code: number;
  stdout: string;
  stderr: string;
}

/** Runs a command to its end and returns what it said; a command that was killed or could not start has code 127 or above. */
export function run(argv: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  const [command = '', ...args] = argv;
  return new Promise((resolve) => {
    const child = spawn(command, args, {
      cwd: options.cwd ?? '/',
      env: { PATH: systemPath, LC_ALL: 'C.UTF-8', HOME: '/root', ...options.env },
      stdio: ['pipe', 'pipe', 'pipe'],
      ...(options.timeoutMs === undefined ? {} : { timeout: options.timeoutMs, killSignal: 'SIGKILL' as const }),
    });
    const stdout: Buffer[] = [];
    const stderr: Buffer[] = [];
    child.stdout.on('data', (chunk: Buffer) => {
      stdout.push(chunk);
      options.onOutput?.(chunk.toString());
    });
    child.stderr.on('data', (chunk: Buffer) => stderr.push(chunk));
    child.stdin.on('error', () => {}); // the command may end without reading its input; its exit code tells
    child.stdin.end(options.input);
    child.on('error', (error) => resolve({ code: 127, stdout: '', stderr: error.message }));
    child.on('close', (code, signal) =>
      resolve({
        code: code ?? 128,
        stdout: Buffer.concat(stdout).toString(),
        stderr: Buffer.concat(stderr).toString() + (signal ? `killed by ${signal}` : ''),
      }),
    );
  });
}

/** Runs a command that has to succeed; returns its output, or throws with the command and its last words. */
export async function must(argv: readonly string[], options: RunOptions = {}): Promise<string> {
  const { code, stdout, stderr } = await run(argv, options);
  if (code === 0) return stdout;
  const lastWords = (stderr.trim() || stdout.trim()).split('\n').slice(-3).join(' | ');
  throw new Error(`lab: ${argv.slice(0, 6).join(' ')} failed with ${code}: ${lastWords}`);
}

/**
 * Starts a daemon that outlives this process: its own session, output appended to `log`, marked with the lab it belongs to.
 *
 * @param part the name by which `partPids` finds it again
 */
export function startDaemon(
  lab: string,
  part: string,
  argv: readonly string[],
  log: string,
  env: Record<string, string> = {},
): void {
  mkdirSync(dirname(log), { recursive: true });
  const output = openSync(log, 'a');
  const [command = '', ...args] = argv;
  const child = spawn(command, args, {
    cwd: '/',
    detached: true,
    stdio: ['ignore', output, output],
    env: { PATH: systemPath, LC_ALL: 'C.UTF-8', HOME: '/root', ...env, [labMark]: lab, [partMark]: part },
  });
  closeSync(output);
  child.on('error', () => {}); // a daemon that did not start is noticed by whoever waits for it
  child.unref();
}

export interface LabProcess {
  pid: number;
  part: string;
  /** First process of a PID namespace of its own: the init of a lab host. */
  isHostInit: boolean;
}

/** A process that has ended stays listed until its parent looks; such a zombie is not alive. */
export function isAlive(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const state = stat.slice(stat.lastIndexOf(')') + 2, stat.lastIndexOf(')') + 3);
    return state !== 'Z' && state !== 'X';
  } catch {
    return false;
  }
}

/** A process's number and start time: another process may get the number later, but not both. */
export function processIdentity(pid: number): string {
  const stat = readProc(pid, 'stat');
  const startTime = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? ''; // field 22 of proc(5)
  return `${pid} ${startTime}`;
}

/** The process of that id, if it lives and carries the mark of the lab in `lab`. */
function labProcess(lab: string, pid: number): LabProcess | undefined {
  const environment = readProc(pid, 'environ');
  if (!environment.includes(`${labMark}=${lab}\0`) || !isAlive(pid)) return undefined;
  const part = environment.split('\0').find((entry) => entry.startsWith(`${partMark}=`));
  const namespacePids = /^NSpid:\t(.*)$/m.exec(readProc(pid, 'status'))?.[1]?.split('\t') ?? [];
  return {
    pid,
    part: part?.slice(partMark.length + 1) ?? '',
    isHostInit: namespacePids.length > 1 && namespacePids.at(-1) === '1',
  };
}

/** Every living process that carries the mark of the lab in `lab`, whoever started it and however that one ended. */
export const labProcesses = (lab: string): LabProcess[] => allPids().flatMap((pid) => labProcess(lab, pid) ?? []);

const foundInits = new Map<string, number>();

/** The init of a running host. Where it was found before it is looked for first: a look at all processes costs several milliseconds. */
export function hostInitOf(lab: string, part: string): number | undefined {
  const key = `${part} ${lab}`;
  const isIt = (process: LabProcess | undefined): boolean => process?.isHostInit === true && process.part === part;
  const before = foundInits.get(key);
  if (before !== undefined && isIt(labProcess(lab, before))) return before;
  const pid = labProcesses(lab).find(isIt)?.pid;
  if (pid === undefined) foundInits.delete(key);
  else foundInits.set(key, pid);
  return pid;
}

/** The processes of one daemon of the lab, by the name it was started with. */
export function partPids(lab: string, part: string): number[] {
  return labProcesses(lab)
    .filter((process) => process.part === part)
    .map((process) => process.pid);
}

/** Every living process that sees the processes which this one sees: of a host's init, all of the host. */
export function beside(pid: number): number[] {
  const namespaceOf = (of: number): string | null => {
    try {
      return readlinkSync(`/proc/${of}/ns/pid`);
    } catch {
      return null; // it ended while we looked
    }
  };
  const wanted = namespaceOf(pid);
  return wanted === null ? [] : allPids().filter((other) => namespaceOf(other) === wanted && isAlive(other));
}

/** Every living process in one of the lab's network namespaces: what a guest, an SSH session or a test left running there. */
export function namespaceProcesses(): number[] {
  const namespaceIds = new Set<string>();
  for (const name of listDirectory('/run/netns')) {
    if (name.startsWith(namespacePrefix)) namespaceIds.add(`net:[${statSync(`/run/netns/${name}`).ino}]`);
  }
  if (namespaceIds.size === 0) return [];
  return allPids().filter((pid) => {
    try {
      return namespaceIds.has(readlinkSync(`/proc/${pid}/ns/net`)) && isAlive(pid);
    } catch {
      return false; // it ended while we looked
    }
  });
}

/** Ends processes: the given signal, and SIGKILL for those that are still alive after `graceMs`. */
export async function endProcesses(
  pids: readonly number[],
  signal: NodeJS.Signals = 'SIGTERM',
  graceMs = 10_000,
): Promise<void> {
  for (const pid of pids) signalProcess(pid, signal);
  const patience = performance.now() + graceMs;
  while (pids.some(isAlive) && performance.now() < patience) await delay(10);
  const stubborn = pids.filter(isAlive);
  if (stubborn.length === 0) return;
  for (const pid of stubborn) signalProcess(pid, 'SIGKILL');
  await waitUntil(`the end of ${stubborn.map(commandLine).join(', ')}`, () => !stubborn.some(isAlive), 10_000);
}

export function commandLine(pid: number): string {
  return `${pid} ${readProc(pid, 'cmdline').replaceAll('\0', ' ').trim().slice(0, 120)}`;
}

/** Asks until the answer is yes; throws naming what was awaited after `timeoutMs`. */
export async function waitUntil(
  what: string,
  isSo: () => boolean | Promise<boolean>,
  timeoutMs: number,
  everyMs = 25,
): Promise<void> {
  const end = performance.now() + timeoutMs;
  while (!(await isSo())) {
    if (performance.now() > end) throw new Error(`lab: waited ${timeoutMs / 1000} s in vain for ${what}`);
    await delay(everyMs);
  }
}

function signalProcess(pid: number, signal: NodeJS.Signals) {
  try {
    process.kill(pid, signal);
  } catch {
    // already gone
  }
}

function allPids(): number[] {
  return listDirectory('/proc')
    .map(Number)
    .filter((pid) => Number.isInteger(pid) && pid !== process.pid);
}

function listDirectory(path: string): string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}

function readProc(pid: number, file: string): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'latin1');
  } catch {
    return ''; // ended, or a kernel thread
  }
}
