/** Lets so many be at work at a time, and the others wait in their order. */
export function inLine(places: number): <T>(work: () => Promise<T>) => Promise<T> {
  let free = places;
  let waiting: (() => void)[] = [];
  /** Those whose turn it is next, the first of them at the end: to take the first of a hundred thousand from the beginning would move all others. */
  let next: (() => void)[] = [];
  return async (work) => {
    if (free > 0) free -= 1;
    else await new Promise<void>((resolve) => waiting.push(resolve));
    try {
      return await work();
    } finally {
      if (next.length === 0) {
        next = waiting.reverse();
        waiting = [];
      }
      const begin = next.pop();
      if (begin) begin();
      else free += 1;
    }
  };
}
