/** How many requests an account may make in a minute; the minute begins with the first of them. */
import { Problem } from '../runtime/problem.ts';

const minuteMs = 60_000;

interface Minute {
  requests: number;
  endsAt: number;
}

export interface Pace {
  /** Counts a request. @throws Problem RATE_LIMITED */
  step(accountId: string): void;
}

export function paceOf(perMinute: number, now: () => number = Date.now): Pace {
  const minutes = new Map<string, Minute>();
  let sweptAt = now();

  /** Of accounts that ask no more nothing stays. */
  function sweep(at: number): void {
    sweptAt = at;
    for (const [accountId, { endsAt }] of minutes) if (endsAt <= at) minutes.delete(accountId);
  }

  return {
    step(accountId) {
      const at = now();
      if (at - sweptAt >= minuteMs) sweep(at);
      const known = minutes.get(accountId);
      if (!known || known.endsAt <= at) {
        minutes.set(accountId, { requests: 1, endsAt: at + minuteMs });
        return;
      }
      known.requests += 1;
      if (known.requests > perMinute)
        throw new Problem('RATE_LIMITED', `more than ${perMinute} requests in a minute`, {
          retryAfterSeconds: Math.ceil((known.endsAt - at) / 1000),
        });
    },
  };
}
