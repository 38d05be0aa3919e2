/**
 * Servers that Belay starts for itself on one machine: each belongs to the process that started it, writes to a log
 * file, and leaves a pid file behind so that a later process can find and stop it.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { dirname } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

/** A log file beyond this size is moved aside when its server starts. */
const LOG_SIZE_MAX_BYTES = 16 * 1024 * 1024;
const SETPRIV = '/usr/bin/setpriv';

export type StopSignal = 'SIGINT' | 'SIGTERM' | 'SIGKILL';

export interface OwnedProcessOptions {
  /** What the server is called in messages. */
  name: string;
  command: string;
  args: readonly string[];
  env?: NodeJS.ProcessEnv;
  cwd?: string;
  /** User and group to run as; only root may ask for another than its own. */
  user?: { uid: number; gid: number };
  /** Linux capabilities the server keeps although it runs as an ordinary user, such as `dac_read_search`. */
  capabilities?: readonly string[];
  logFile: string;
  pidFile: string;
  /** The signal after which the server ends cleanly; also sent when the owner dies. */
  stopSignal: StopSignal;
}

export interface OwnedProcess {
  pid: number;
  /** Resolves once the process has ended, with a description of how. */
  exited: Promise<string>;
  running(): boolean;
  /** Ends the process: its stop signal, then SIGKILL after the timeout. Resolves when it is gone. */
  stop(timeoutMs?: number): Promise<void>;
}

/** One process as `/proc` knows it; the start time tells a reused pid from the original. */
export interface ProcessIdentity {
  pid: number;
  startTicks: string;
}

/** Identity of a living process, or undefined when there is none. A zombie counts as gone. */
export function processIdentity(pid: number): ProcessIdentity | undefined {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  } catch {
    return undefined;
  }
  // The command name may hold spaces and parentheses; state is the first field behind its last parenthesis.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const [state] = fields;
  const startTicks = fields[19];
  if (startTicks === undefined || state === 'Z' || state === 'X') return undefined;
  return { pid, startTicks };
}

function sameProcess({ pid, startTicks }: ProcessIdentity): boolean {
  return processIdentity(pid)?.startTicks === startTicks;
}

interface PidFile {
  server: ProcessIdentity;
  owner: ProcessIdentity;
}

/** What a pid file says, or undefined when it is absent or unreadable. */
function readPidFile(pidFile: string): PidFile | undefined {
  try {
    const content: unknown = JSON.parse(readFileSync(pidFile, 'utf8'));
    return isPidFile(content) ? content : undefined;
  } catch {
    return undefined;
  }
}

function isPidFile(content: unknown): content is PidFile {
  const isIdentity = (value: unknown): boolean =>
    typeof value === 'object' && value !== null && 'pid' in value && 'startTicks' in value;
  return (
    typeof content === 'object' &&
    content !== null &&
    'server' in content &&
    'owner' in content &&
    isIdentity(content.server) &&
    isIdentity(content.owner)
  );
}

/** The living server that a pid file names, and whether the process that started it still lives. */
export function findOwnedProcess(pidFile: string): { pid: number; ownerPid: number; ownerAlive: boolean } | undefined {
  const file = readPidFile(pidFile);
  if (file === undefined || !sameProcess(file.server)) return undefined;
  return { pid: file.server.pid, ownerPid: file.owner.pid, ownerAlive: sameProcess(file.owner) };
}

/**
 * Stops the server that a pid file names, whoever started it, and removes the file.
 * Returns whether there was one to stop.
 */
export async function stopByPidFile(pidFile: string, signal: StopSignal = 'SIGTERM', timeoutMs = 15_000) {
  const file = readPidFile(pidFile);
  const found = file !== undefined && sameProcess(file.server);
  if (found) await endProcess(file.server, signal, timeoutMs);
  rmSync(pidFile, { force: true });
  return found;
}

/**
 * Ends one process and waits until it is gone: the signal first, SIGKILL when the timeout has passed.
 * Throws when even that does not end it within five seconds.
 */
export async function endProcess(process_: ProcessIdentity, signal: StopSignal, timeoutMs: number): Promise<void> {
  sendSignal(process_, signal);
  if (await gone(process_, timeoutMs)) return;
  sendSignal(process_, 'SIGKILL');
  if (await gone(process_, 5_000)) return;
  throw new Error(`process ${process_.pid} survives SIGKILL`);
}

function sendSignal(target: ProcessIdentity, signal: StopSignal) {
  if (!sameProcess(target)) return;
  try {
    process.kill(target.pid, signal);
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error;
  }
}

async function gone(target: ProcessIdentity, timeoutMs: number): Promise<boolean> {
  const deadline = Date.now() + timeoutMs;
  while (sameProcess(target)) {
    if (Date.now() > deadline) return false;
    await delay(15);
  }
  return true;
}

/**
 * Makes room for a server: an orphan of a crashed owner is stopped, a server whose owner lives is an error that names
 * the owner. Call before starting another one over the same data.
 */
export async function claimPidFile(name: string, pidFile: string, signal: StopSignal): Promise<void> {
  const found = findOwnedProcess(pidFile);
  if (found?.ownerAlive) {
    throw new Error(
      `${name} already runs as process ${found.pid}, started by process ${found.ownerPid}; stop that one first (pid file ${pidFile})`,
    );
  }
  await stopByPidFile(pidFile, signal);
}

/** Leaves a pid file of this process itself, so that a later one finds and stops it. */
export function writeOwnPidFile(pidFile: string): void {
  const self = processIdentity(process.pid);
  if (self === undefined) throw new Error('/proc does not show this process');
  mkdirSync(dirname(pidFile), { recursive: true });
  writeFileSync(pidFile, `${JSON.stringify({ server: self, owner: self } satisfies PidFile)}\n`);
}

/**
 * Starts a server that ends with its owner.
 *
 * It gets its own session, so that Ctrl-C in a terminal reaches the owner only and the owner decides in which order
 * things end. Should the owner vanish without stopping it, the kernel sends the stop signal (`setpriv --pdeathsig`).
 */
export function startOwnedProcess(options: OwnedProcessOptions): OwnedProcess {
  const { name, command, args, pidFile, stopSignal, user } = options;
  mkdirSync(dirname(pidFile), { recursive: true });
  const [program, ...programArgs] = withParentDeathSignal(options, [command, ...args]);
  const logDescriptor = openLog(options.logFile);
  let child: ChildProcess;
  try {
    child = spawn(program, programArgs, {
      cwd: options.cwd,
      env: options.env ?? process.env,
      stdio: ['ignore', logDescriptor, logDescriptor],
      detached: true,
      // With capabilities, setpriv itself changes the user: they would be lost on the way otherwise.
      ...(user !== undefined && options.capabilities === undefined && user),
    });
  } finally {
    closeSync(logDescriptor);
  }
  const { pid } = child;
  const exited = new Promise<string>((resolve) => {
    child.once('error', (error) => resolve(`${name} could not be started: ${error.message}`));
    child.once('exit', (code, signal) => resolve(`${name} ended with ${signal ?? `exit code ${code}`}`));
  });
  const server = pid === undefined ? undefined : processIdentity(pid);
  const owner = processIdentity(process.pid);
  if (pid !== undefined && server !== undefined && owner !== undefined) {
    writeFileSync(pidFile, `${JSON.stringify({ server, owner } satisfies PidFile)}\n`);
  }
  const killAtExit = () => child.kill(stopSignal);
  process.once('exit', killAtExit);
  void exited.then(() => {
    process.removeListener('exit', killAtExit);
    if (readPidFile(pidFile)?.server.pid === pid) rmSync(pidFile, { force: true });
  });

  const running = () => pid !== undefined && child.exitCode === null && child.signalCode === null;
  return {
    pid: pid ?? 0,
    exited,
    running,
    async stop(timeoutMs = 15_000) {
      if (!running()) return;
      child.kill(stopSignal);
      const killTimer = setTimeout(() => child.kill('SIGKILL'), timeoutMs);
      await exited;
      clearTimeout(killTimer);
    },
  };
}

function withParentDeathSignal(
  { name, user, capabilities, stopSignal }: OwnedProcessOptions,
  commandLine: [string, ...string[]],
): [string, ...string[]] {
  if (!existsSync(SETPRIV)) {
    if (capabilities !== undefined) throw new Error(`${name} needs ${SETPRIV} (Debian package util-linux)`);
    return commandLine;
  }
  const setpriv: [string, ...string[]] = [SETPRIV, `--pdeathsig=${stopSignal.slice(3)}`];
  if (user !== undefined && capabilities !== undefined) {
    const kept = capabilities.map((capability) => `+${capability}`).join(',');
    setpriv.push(`--reuid=${user.uid}`, `--regid=${user.gid}`, '--clear-groups');
    setpriv.push(`--inh-caps=${kept}`, `--ambient-caps=${kept}`);
  }
  return [...setpriv, '--', ...commandLine];
}

function openLog(logFile: string): number {
  mkdirSync(dirname(logFile), { recursive: true });
  if (existsSync(logFile) && statSync(logFile).size > LOG_SIZE_MAX_BYTES) renameSync(logFile, `${logFile}.1`);
  return openSync(logFile, 'a', 0o600);
}

/** The end of a log file, for an error message. */
export function logTail(logFile: string, lines = 12): string {
  try {
    return readFileSync(logFile, 'utf8').trimEnd().split('\n').slice(-lines).join('\n');
  } catch {
    return '(no log)';
  }
}

/**
 * Fails with one line when another process listens on a port of 127.0.0.1.
 * @param setting how the user chooses another port, such as `BELAY_POSTGRES_PORT`
 */
export async function assertPortFree(name: string, port: number, setting: string): Promise<void> {
  if (await isPortTaken(port))
    throw new Error(`port ${port} for ${name} is in use on 127.0.0.1; free it or choose another with ${setting}`);
}

export const isPortTaken = (port: number): Promise<boolean> =>
  new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once('error', (error: NodeJS.ErrnoException) =>
      error.code === 'EADDRINUSE' ? resolve(true) : reject(error),
    );
    probe.listen({ host: '127.0.0.1', port, exclusive: true }, () => probe.close(() => resolve(false)));
  });

/** Below what Linux gives to outgoing connections (ip_local_port_range): one of those could take the port before its server does. */
const serverPorts = { first: 10_000, last: 32_767 };

/** The first of `count` ports in a row of 127.0.0.1 that nobody listens on at the moment, for servers that live as long as a test or a script. */
export async function freePort(count = 1): Promise<number> {
  for (let attempt = 0; attempt < 100; attempt++) {
    const first = serverPorts.first + Math.floor(Math.random() * (serverPorts.last - serverPorts.first - count));
    const taken = await Promise.all(Array.from({ length: count }, (_, offset) => isPortTaken(first + offset)));
    if (!taken.includes(true)) return first;
  }
  throw new Error(`found no ${count} free ports in a row`);
}
