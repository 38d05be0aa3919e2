import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { Log } from '../../../runtime/log.ts';
import { repeat } from '../../../workers/loop.ts';

const log = { warn: () => {} } as unknown as Log;

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

async function triesIn(ms: number, work: () => Promise<unknown>): Promise<number> {
  let tries = 0;
  let end: () => void = () => {};
  const stop = new Promise<void>((resolve) => {
    end = resolve;
  });
  const counted = (): Promise<unknown> => {
    tries += 1;
    return work();
  };
  const running = repeat(log, stop, { what: 'a round', work: counted, pauseMs: (more) => (more ? 0 : 100) });
  await vi.advanceTimersByTimeAsync(ms);
  end();
  await running;
  return tries;
}

test('a loop goes on after the pause that its answer asks for', async () => {
  expect(await triesIn(950, async () => false)).toBe(10);
});

test('what fails is not tried again at once, however short the pause is otherwise', async () => {
  const away = async (): Promise<never> => {
    throw new Error('the database is away');
  };
  expect(await triesIn(2_500, away)).toBe(3);
});
