/** Places that accounts take turns at: who asks for much waits for its own, not others for it. */
import { Problem } from '../runtime/problem.ts';

/** An account counts as one that shares the places for so long after it asked. */
const presentMs = 1_000;
/** So many of one account may wait. */
const waitingMax = 1_000;

interface Asking {
  held: number;
  askedAt: number;
  waiting: (() => void)[];
}

export interface Turns {
  /** Resolves when it is the account's turn, with what gives the place back. @throws Problem RATE_LIMITED */
  take(accountId: string): Promise<() => void>;
}

/**
 * At most `places` at once. An account has an even share of them among those that are there, and `most` at the most: alone it has all that
 * `most` lets it have. What is beyond waits, and the places go around.
 */
export function turnsOf(places: number, most = places): Turns {
  const accounts = new Map<string, Asking>();
  let held = 0;

  function share(): number {
    const now = Date.now();
    for (const [id, { held: own, askedAt, waiting }] of accounts)
      if (own === 0 && waiting.length === 0 && now - askedAt > presentMs) accounts.delete(id);
    return Math.max(1, Math.min(most, Math.floor(places / Math.max(1, accounts.size))));
  }

  /** Hands out what is free, to each account in its turn. */
  function goOn(): void {
    const limit = share();
    for (const [id, asking] of accounts) {
      if (held >= places) return;
      if (asking.held >= limit) continue;
      const next = asking.waiting.shift();
      if (!next) continue;
      // Whoever had its turn is the last to have the next one.
      accounts.delete(id);
      accounts.set(id, asking);
      held += 1;
      asking.held += 1;
      next();
    }
  }

  return {
    async take(accountId) {
      const asking = accounts.get(accountId) ?? { held: 0, askedAt: 0, waiting: [] };
      accounts.set(accountId, asking);
      asking.askedAt = Date.now();
      if (asking.waiting.length >= waitingMax)
        throw new Problem('RATE_LIMITED', `${waitingMax} requests of your account wait already`, {
          retryAfterSeconds: 1,
        });
      if (held < places && asking.waiting.length === 0 && asking.held < share()) {
        held += 1;
        asking.held += 1;
      } else await new Promise<void>((resolve) => asking.waiting.push(resolve));
      let mine = true;
      return () => {
        if (!mine) return;
        mine = false;
        held -= 1;
        asking.held -= 1;
        goOn();
      };
    },
  };
}
