/** Programs of the benchmark that run beside it: started with an open channel, asked, ended. */
import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { nodeArguments, nodeCommand } from '../runtime/node.mjs';

export interface Child {
  pid: number;
  /** Sends a question and waits for its answer; one at a time. */
  ask<Answer>(question: unknown): Promise<Answer>;
  stop(): Promise<void>;
}

/** Ends a program with this process, if it has not ended before. */
export function endWithUs(child: ChildProcess): void {
  const end = (): void => {
    child.kill('SIGTERM');
  };
  process.once('exit', end);
  child.once('exit', () => process.removeListener('exit', end));
}

/** Starts `bench/<program>`. It answers each message with `{ result }` or `{ error }`. */
export function startChild(program: string, environment: Record<string, string> = {}): Child {
  const child: ChildProcess = fork(fileURLToPath(new URL(program, import.meta.url)), [], {
    execPath: nodeCommand(),
    execArgv: [...nodeArguments],
    env: { ...process.env, NODE_ENV: 'production', ...environment },
  });
  endWithUs(child);
  const ended = new Promise<never>((_, reject) => {
    child.once('exit', (code, signal) => reject(new Error(`bench/${program} ended with ${signal ?? code}`)));
  });
  ended.catch(() => {});
  return {
    pid: child.pid ?? 0,
    async ask<Answer>(question: unknown) {
      const answered = new Promise<Answer>((resolve, reject) => {
        child.once('message', (message: { result?: Answer; error?: string }) => {
          if (message.error === undefined) resolve(message.result as Answer);
          else reject(new Error(`bench/${program}: ${message.error}`));
        });
      });
      child.send(question as object);
      return Promise.race([answered, ended]);
    },
    async stop() {
      child.kill('SIGTERM');
      await ended.catch(() => {});
    },
  };
}
