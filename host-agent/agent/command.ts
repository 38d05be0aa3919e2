import { type ExecFileOptions, execFile } from 'node:child_process';
import { Problem } from '../problem.ts';

const ENVIRONMENT = { PATH: '/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin', LANG: 'C.UTF-8', HOME: '/' };
const MAX_OUTPUT_BYTES = 4 * 1024 * 1024;

/**
 * Runs a program without a shell and answers its standard output.
 *
 * @throws Problem BACKEND_UNAVAILABLE with its last words when it fails, TIMEOUT when it was stopped for that, NOT_SUPPORTED when it is not installed.
 */
export function runProgram(
  program: string,
  argv: string[],
  options: { timeoutMs?: number; signal?: AbortSignal } = {},
): Promise<string> {
  const settings: ExecFileOptions & { encoding: 'utf8' } = {
    encoding: 'utf8',
    env: ENVIRONMENT,
    timeout: options.timeoutMs ?? 30_000,
    killSignal: 'SIGKILL',
    maxBuffer: MAX_OUTPUT_BYTES,
    ...(options.signal ? { signal: options.signal } : {}),
  };
  return new Promise((resolve, reject) => {
    execFile(program, argv, settings, (error, stdout, stderr) => {
      if (!error) return resolve(stdout);
      if (error.code === 'ENOENT')
        return reject(new Problem('NOT_SUPPORTED', `${program} is not installed on this host`));
      // Nothing else stops it without a code of its own (Node, child_process.execFile).
      if (error.killed && error.code == null)
        return reject(new Problem('TIMEOUT', `${program} was not done in ${settings.timeout} ms`, true));
      const lastWords = stderr.trim().split('\n').slice(-3).join(' ') || error.message;
      reject(new Problem('BACKEND_UNAVAILABLE', `${program} failed: ${lastWords}`, true));
    });
  });
}
