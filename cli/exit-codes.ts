/** What the shell is told. */
import { Refused, TimedOut, Unreachable } from './client.ts';

export const exitCodes = {
  ok: 0,
  failed: 1,
  usage: 2,
  notFound: 3,
  notAllowed: 4,
  unreachable: 5,
  timedOut: 6,
  interrupted: 130,
} as const;

export const exitCodesHelp = `Exit codes

    0  done
    1  the API refused, or the operation failed, was cancelled, or is stuck
    2  wrong usage: unknown command or option, a value that can not be right, an ambiguous name
    3  not found, or not visible to you
    4  not authenticated, or not allowed
    5  the API could not be reached
    6  timed out while waiting; the operation goes on
  130  interrupted with Ctrl-C; an operation that was waited for goes on
`;

/** The command can not be carried out as it was written. */
export class Usage extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'Usage';
  }
}

/** A name that nothing has. */
export class Missing extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'Missing';
  }
}

/** An operation ended otherwise than it should; what is to be said of it was said. */
export class Failed extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'Failed';
  }
}

const notAllowed: readonly string[] = ['UNAUTHENTICATED', 'FORBIDDEN', 'ACCOUNT_SUSPENDED'];

export function exitCodeOf(error: unknown): number {
  if (error instanceof Usage) return exitCodes.usage;
  if (error instanceof Missing) return exitCodes.notFound;
  if (error instanceof Unreachable) return exitCodes.unreachable;
  if (error instanceof TimedOut) return exitCodes.timedOut;
  if (error instanceof Error && error.name === 'AbortError') return exitCodes.interrupted;
  if (!(error instanceof Refused)) return exitCodes.failed;
  if (error.problem.code === 'NOT_FOUND') return exitCodes.notFound;
  return notAllowed.includes(error.problem.code) ? exitCodes.notAllowed : exitCodes.failed;
}
