/** Accounts share what a process can do at a time: who asks for much waits for its own, not others for it. */
import { Problem } from '../runtime/problem.ts';

/** An account counts as one that shares for so long after it asked. */
const presentMs = 5_000;
const lookMs = 1_000;
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
 * An account has an even share of the places among those that are there, and never less than `least`; one that is alone has `alone`. What it
 * asks for beyond that waits until it gives some back. Nobody who comes waits for another's.
 */
export function turnsOf(places: number, { least = 1, alone = places }: { least?: number; alone?: number } = {}): Turns {
  const accounts = new Map<string, Asking>();
  let lookedAt = 0;

  function share(): number {
    const now = Date.now();
    if (now - lookedAt > lookMs) {
      lookedAt = now;
      for (const [id, asking] of accounts)
        if (asking.held === 0 && now - asking.askedAt > presentMs) accounts.delete(id);
    }
    return accounts.size <= 1 ? alone : Math.max(least, Math.floor(places / accounts.size));
  }

  function goOn(asking: Asking): void {
    for (const limit = share(); asking.held < limit; asking.held += 1) {
      const next = asking.waiting.shift();
      if (!next) return;
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
      if (asking.waiting.length === 0 && asking.held < share()) asking.held += 1;
      else
        await new Promise<void>((resolve) => {
          asking.waiting.push(resolve);
          goOn(asking);
        });
      let mine = true;
      return () => {
        if (!mine) return;
        mine = false;
        asking.held -= 1;
        goOn(asking);
      };
    },
  };
}
