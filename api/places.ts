/** How many answers an API key and an account keep open in this process, and that it is not too many. */
import type { Caller } from '../acceptance/caller.ts';
import { config } from '../runtime/config.ts';
import { metrics } from '../runtime/metrics.ts';
import { Problem } from '../runtime/problem.ts';

/** What stays open: streams of events and consoles, waits for operations, uploads of images. */
export type Sort = 'stream' | 'wait' | 'upload';

const limits: Readonly<Record<Sort, { key: number; account: number }>> = {
  stream: { key: config.streamsPerKey, account: config.streamsPerAccount },
  wait: { key: config.waitsPerKey, account: config.waitsPerAccount },
  upload: { key: config.uploadsPerKey, account: config.uploadsPerAccount },
};

const retryAfterSeconds = 5;

/** How many places are taken, by sort and owner. */
const taken = new Map<string, number>();

const ownersOf = (sort: Sort, { apiKeyId, accountId }: Caller) => [
  { name: 'API key', key: `${sort} ${apiKeyId}`, limit: limits[sort].key },
  { name: 'account', key: `${sort} ${accountId}`, limit: limits[sort].account },
];

const fullOf = (sort: Sort, caller: Caller) =>
  ownersOf(sort, caller).find(({ key, limit }) => (taken.get(key) ?? 0) >= limit);

/** Whether the caller may keep one more open. */
export const hasPlace = (sort: Sort, caller: Caller): boolean => fullOf(sort, caller) === undefined;

/** Takes a place, and answers what gives it back, once. @throws Problem TOO_MANY_OPEN */
export function takePlace(sort: Sort, caller: Caller): () => void {
  const full = fullOf(sort, caller);
  if (full) {
    metrics.openRefused.labels(sort).inc();
    throw new Problem(
      'TOO_MANY_OPEN',
      `this ${full.name} has ${full.limit} ${sort}s open already; end one, or come again`,
      {
        retryAfterSeconds,
        limit: full.limit,
      },
    );
  }
  const keys = ownersOf(sort, caller).map(({ key }) => key);
  for (const key of keys) taken.set(key, (taken.get(key) ?? 0) + 1);
  metrics.open.labels(sort).inc();
  let held = true;
  return () => {
    if (!held) return;
    held = false;
    metrics.open.labels(sort).dec();
    for (const key of keys) {
      const left = (taken.get(key) ?? 0) - 1;
      if (left > 0) taken.set(key, left);
      else taken.delete(key);
    }
  };
}
