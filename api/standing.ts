/**
 * Answers that stay open: streams, followed consoles, uploads, waits. Who asked was allowed to when it asked; it is asked again whenever
 * rights change anywhere, and when the first of its own ends, and the answer is over as soon as it may not have it any more.
 */
import type Koa from 'koa';
import type { Caller } from '../acceptance/caller.ts';
import { Problem } from '../runtime/problem.ts';
import type { Authenticator } from './authenticate.ts';
import { type Sort, takePlace } from './places.ts';

export interface Standing {
  /** The caller with the rights that it has now. */
  readonly caller: Caller;
  /** Aborted when the answer is over: the client is gone, or may not have it any more. */
  readonly signal: AbortSignal;
  /** Throws what the caller is told when it may not have the answer any more. */
  refuse(): void;
  /** Ends it for another reason. */
  end(problem: Problem): void;
}

/** Longer than a timer can wait; then it is merely asked again. */
const longestMs = 24 * 3600 * 1000;
/** While rights can not be asked for, such as without a database, an answer goes on for so long at most. */
const patienceMs = 10_000;
const askAgainMs = 250;

/**
 * Lets an answer stay open for as long as its caller may have it. The only way to a signal for work that lasts.
 *
 * @throws Problem TOO_MANY_OPEN
 */
export function standingOf(
  { authenticator }: { authenticator: Authenticator },
  ctx: Koa.Context,
  sort: Sort,
  may: (caller: Caller) => boolean | Promise<boolean>,
): Standing {
  const controller = new AbortController();
  const { signal } = controller;
  const opened = ctx.state.caller as Caller;
  ctx.res.once('close', takePlace(sort, opened));
  // It has a place of another sort now.
  ctx.state.giveBack?.();
  const authorization = ctx.get('Authorization');
  const address = ctx.ip;
  let caller = opened;
  let timer: NodeJS.Timeout | undefined;
  let asking = false;
  let again = false;
  let failingSince: number | null = null;

  async function stillMay(): Promise<void> {
    const now = await authenticator.authenticate(authorization, address);
    if (now.accountState !== opened.accountState && now.accountState !== 'active')
      throw new Problem('ACCOUNT_SUSPENDED', `the account is ${now.accountState}`);
    if (!(await may(now))) throw new Problem('FORBIDDEN', 'you may not have this any more');
    caller = now;
    failingSince = null;
  }

  async function ask(): Promise<void> {
    again = asking;
    if (asking || signal.aborted) return;
    asking = true;
    clearTimeout(timer);
    const failed = await stillMay().then(
      () => null,
      (error: unknown) => error,
    );
    asking = false;
    if (failed instanceof Problem) return controller.abort(failed);
    if (failed) failingSince ??= Date.now();
    if (failingSince !== null && Date.now() - failingSince > patienceMs)
      return controller.abort(new Problem('BACKEND_UNAVAILABLE', 'rights can not be asked for; try again'));
    if (again && !failed) return ask();
    const ends = Math.min(caller.key.endsAt, ...caller.grants.map(({ endsAt }) => endsAt)) - Date.now();
    const pause = failed ? askAgainMs : Math.min(Math.max(ends, 0) + 5, longestMs);
    if (!signal.aborted) timer = setTimeout(() => void ask(), pause);
  }

  const leave = authenticator.watch(() => void ask());
  signal.addEventListener('abort', () => {
    leave();
    clearTimeout(timer);
  });
  ctx.res.once('close', () => controller.abort());
  // What changed between the request and now is noticed too.
  void ask();
  return {
    get caller() {
      return caller;
    },
    signal,
    refuse() {
      if (signal.reason instanceof Problem) throw signal.reason;
    },
    end: (problem) => controller.abort(problem),
  };
}
