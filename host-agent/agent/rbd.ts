import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { AgentProblem } from '../problem.ts';
import { Problem } from '../problem.ts';
import type { CephAccess } from '../protocol.ts';
import { acting } from './acting.ts';
import type { Log } from './log.ts';

export type ClusterAccess = Omit<CephAccess, 'storageClusterId'>;

/** The process that holds librados and librbd; see `rbd_helper.py` for its operations. */
export interface RbdHelper {
  request<Result>(operation: string, cluster: ClusterAccess, args: Record<string, unknown>): Promise<Result>;
  close(): void;
}

interface Answer {
  id: number;
  result?: unknown;
  error?: AgentProblem;
}

interface Living {
  process: ChildProcessWithoutNullStreams;
  waiting: Map<number, { resolve: (result: unknown) => void; reject: (error: Error) => void }>;
}

/** Starts with the first request, and again after it died. The distribution's own Python has the bindings; others do not. */
export function rbdHelper(scriptPath: string, log: Log): RbdHelper {
  let living: Living | undefined;
  let serial = 0;

  function start(): Living {
    const child = spawn('/usr/bin/python3', ['-I', '-u', scriptPath], {
      env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LANG: 'C.UTF-8' },
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    const started: Living = { process: child, waiting: new Map() };
    let lastWords = '';
    createInterface({ input: child.stdout }).on('line', (line) => {
      const answer = JSON.parse(line) as Answer;
      const caller = started.waiting.get(answer.id);
      started.waiting.delete(answer.id);
      if (answer.error) caller?.reject(new Problem(answer.error.code, answer.error.message, answer.error.retryable));
      else caller?.resolve(answer.result);
    });
    createInterface({ input: child.stderr }).on('line', (line) => {
      lastWords = line;
      log('warn', 'librbd helper', { line });
    });
    const ended = (why: string) => {
      if (living === started) living = undefined;
      const problem = new Problem('BACKEND_UNAVAILABLE', `the librbd helper ended: ${lastWords || why}`, true);
      for (const caller of started.waiting.values()) caller.reject(problem);
      started.waiting.clear();
    };
    child.on('error', (error) => ended(error.message));
    child.on('close', (code, signal) => ended(`exit ${code ?? signal}`));
    child.stdin.on('error', () => {}); // told by 'close'
    return started;
  }

  return {
    request: <Result>(operation: string, cluster: ClusterAccess, args: Record<string, unknown>) =>
      new Promise<Result>((resolve, reject) => {
        living ??= start();
        serial += 1;
        living.waiting.set(serial, { resolve: (result) => resolve(result as Result), reject });
        const { monitors, fsid, user, key } = cluster;
        const deadline = acting.getStore();
        // In the helper's own words: both clocks are CLOCK_MONOTONIC.
        const until = deadline ? Number(process.hrtime.bigint()) / 1e9 + deadline.leftMs() / 1_000 : null;
        living.process.stdin.write(
          `${JSON.stringify({ id: serial, op: operation, cluster: { monitors, fsid, user, key }, args, until })}\n`,
        );
      }),
    close() {
      living?.process.kill('SIGKILL');
    },
  };
}
