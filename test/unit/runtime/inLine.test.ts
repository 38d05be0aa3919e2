import { expect, test } from 'vitest';
import { inLine } from '../../../runtime/inLine.ts';

test('no more are at work than there are places, all have their turn in their order, and one that fails leaves its place', async () => {
  const begin = inLine(2);
  const begun: number[] = [];
  const ends: (() => void)[] = [];
  const works = [0, 1, 2, 3, 4].map((n) =>
    begin(async () => {
      begun.push(n);
      await new Promise<void>((resolve) => {
        ends[n] = resolve;
      });
      if (n === 0) throw new Error('it does not answer');
      return n;
    }),
  );
  const [first] = works;
  await new Promise(setImmediate);
  expect(begun).toEqual([0, 1]);
  ends[0]?.();
  await expect(first).rejects.toThrow('it does not answer');
  await new Promise(setImmediate);
  expect(begun).toEqual([0, 1, 2]);
  ends[2]?.();
  ends[1]?.();
  await new Promise(setImmediate);
  expect(begun).toEqual([0, 1, 2, 3, 4]);
  ends[3]?.();
  ends[4]?.();
  expect(await Promise.all(works.slice(1))).toEqual([1, 2, 3, 4]);
});
