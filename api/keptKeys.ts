/** How many answers to Idempotency-Keys are kept for one account: each takes room in the database for as long as the setting says. */
import type { Transaction } from '../database/database.ts';
import { keptAnswers } from '../database/settings.ts';
import { Problem } from '../runtime/problem.ts';

/** What was counted is as good as new for so long; what this process has added since it knows. */
const rememberMs = 30_000;
const fullMs = 1_000;

interface Kept {
  count: number;
  most: number;
  at: number;
}

/**
 * Counts one more for the account, in the transaction that keeps it. Several API processes may together let through some more than the setting says:
 * what they do in half a minute.
 *
 * @throws Problem TOO_MANY_OPEN when there are as many as may be
 */
export function keptKeys(
  now: () => number = () => performance.now(),
): (tx: Transaction, accountId: string) => Promise<void> {
  const known = new Map<string, Kept>();
  return async (tx, accountId) => {
    let kept = known.get(accountId);
    // At the limit it is counted anew sooner: what was added here may have been rolled back.
    if (!kept || now() - kept.at > (kept.count < kept.most ? rememberMs : fullMs)) {
      const [row] = await keptAnswers(tx, { accountId });
      // The one that is being taken is among them already.
      kept = { most: row?.most ?? 0, count: Math.max(0, (row?.count ?? 0) - 1), at: now() };
      if (known.size > 10_000) known.clear();
      known.set(accountId, kept);
    }
    if (kept.count >= kept.most)
      throw new Problem(
        'TOO_MANY_OPEN',
        `the answers to ${kept.most} Idempotency-Keys are kept for this account already; do without a key, or come again`,
        { limit: kept.most, retryAfterSeconds: 60 },
      );
    kept.count += 1;
  };
}
