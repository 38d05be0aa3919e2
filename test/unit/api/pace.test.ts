import { expect, test } from 'vitest';
import { paceOf } from '../../../api/pace.ts';

test('an account makes so many requests in a minute, and is told when the next minute begins', () => {
  let at = 1_000_000;
  const pace = paceOf(2, () => at);
  pace.step('a');
  at += 10_000;
  pace.step('a');
  const refused = expect.objectContaining({ code: 'RATE_LIMITED', details: { retryAfterSeconds: 50 } });
  expect(() => pace.step('a')).toThrow(refused);
  // Others have minutes of their own.
  pace.step('b');
  at += 49_999;
  expect(() => pace.step('a')).toThrow(expect.objectContaining({ details: { retryAfterSeconds: 1 } }));
  at += 1;
  pace.step('a');
  pace.step('a');
  expect(() => pace.step('a')).toThrow(expect.objectContaining({ details: { retryAfterSeconds: 60 } }));
});
