import { acting } from './acting.ts';

/**
 * Runs pieces of work that share a key one after the other, in the order in which they came; others at the same time. What its turn comes too
 * late for is not begun; `begun` is what goes on with a call that was in time.
 */
export function keyedMutex(): <Result>(key: string, work: () => Promise<Result>, begun?: 'begun') => Promise<Result> {
  const tails = new Map<string, Promise<unknown>>();
  return (key, work, begun) => {
    const deadline = begun ? undefined : acting.getStore();
    const begin = (): ReturnType<typeof work> => {
      deadline?.refuseLate();
      return work();
    };
    const before = tails.get(key) ?? Promise.resolve();
    const result = before.then(begin, begin);
    const tail = result.catch(() => {});
    tails.set(key, tail);
    void tail.then(() => {
      if (tails.get(key) === tail) tails.delete(key);
    });
    return result;
  };
}
