/** Nobody takes what was long ago for new, whatever becomes of a clock. */
import { expect, test } from 'vitest';
import { momentNow, passedMs } from '../../../runtime/moment.ts';

const since = { wallMs: 1_000_000, steadyMs: 5_000 };

test.each([
  ['goes as it should', 1_003_000, 8_000, 3_000],
  ['was set back by an hour', 1_003_000 - 3_600_000, 8_000, 3_000],
  ['was set forward by an hour', 1_003_000 + 3_600_000, 8_000, 3_603_000],
  ['has gone on while the machine slept', 1_063_000, 5_500, 63_000],
])('the clock on the wall %s', (_, wallMs, steadyMs, passed) => {
  expect(passedMs(since, { wallMs, steadyMs })).toBe(passed);
});

test('what was just now is not long ago', () => {
  expect(passedMs(momentNow())).toBeLessThan(10_000);
});
