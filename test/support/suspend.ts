/** A worker that is stopped as a suspended virtual machine is, and another that takes its place. */
import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';

/** Stops a process where it is; its connections stay open. Answers what lets it go on. */
export function suspend(pid: number): () => void {
  process.kill(pid, 'SIGSTOP');
  let isStopped = true;
  return () => {
    if (isStopped) process.kill(pid, 'SIGCONT');
    isStopped = false;
  };
}

/** Whether a process is stopped. */
export const isSuspended = (pid: number): boolean => /^\d+ \(.*\) T /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));

/** How many messages of that name this worker has sent to hosts that were acted on, and that were not: refused, or lost with their connection. */
export async function answersTo(pid: number, message: string): Promise<{ done: number; inVain: number }> {
  const environment = readFileSync(`/proc/${pid}/environ`, 'utf8');
  const [, port] = /(?:^|\0)BELAY_METRICS_PORT=(\d+)/.exec(environment) ?? [];
  const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
  const answers = { done: 0, inVain: 0 };
  for (const [, labels = '', count] of text.matchAll(/^belay_agent_call_duration_seconds_count\{([^}]*)\} (\d+)/gm))
    if (labels.includes(`call="${message}"`))
      answers[labels.includes('outcome="ok"') ? 'done' : 'inVain'] += Number(count);
  return answers;
}

/** Another host worker as the one with this pid, under a name of its own. Answers what ends it, with its pid. */
export function secondWorker(pid: number, name: string): (() => Promise<void>) & { pid: number } {
  const words = (file: string): string[] => readFileSync(`/proc/${pid}/${file}`, 'utf8').split('\0').slice(0, -1);
  const [command = '', ...args] = words('cmdline');
  const environment = Object.fromEntries(
    words('environ').map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
  );
  const env = { ...environment, BELAY_WORKER_ID: name, BELAY_METRICS_PORT: '0' };
  const child: ChildProcess = spawn(command, args, { env, cwd: process.cwd(), stdio: 'ignore' });
  const ended = new Promise<void>((resolve) => {
    child.once('exit', () => resolve());
  });
  const end = async (): Promise<void> => {
    child.kill('SIGTERM');
    // A fault rule may have stopped this one too.
    child.kill('SIGCONT');
    await ended;
  };
  return Object.assign(end, { pid: child.pid ?? 0 });
}
