/** What cron expressions mean, how close together their runs are, and what is said of those that mean nothing. */
import { expect, test } from 'vitest';
import { CronError, calendarAt, calendarsOf, isTimeZone, leastGapSeconds } from '../../../model/platform/cron.ts';

const refusal = (cron: string): string => {
  try {
    return JSON.stringify(calendarsOf(cron));
  } catch (error) {
    if (error instanceof CronError) return error.message;
    throw error;
  }
};

test.each([
  ['* * * * *', [{ second: [0] }]],
  ['30 3 * * *', [{ second: [0], minute: [30], hour: [3] }]],
  ['*/15 0-2,22 * * *', [{ second: [0], minute: [0, 15, 30, 45], hour: [0, 1, 2, 22] }]],
  ['5/20 * * * *', [{ second: [0], minute: [5, 25, 45] }]],
  ['0 0 1-10/3 jan,DEC *', [{ second: [0], minute: [0], hour: [0], month: [1, 12], dayOfMonth: [1, 4, 7, 10] }]],
  ['0 8 * * mon-fri', [{ second: [0], minute: [0], hour: [8], dayOfWeek: [1, 2, 3, 4, 5] }]],
  ['0 8 * * 5-7', [{ second: [0], minute: [0], hour: [8], dayOfWeek: [0, 5, 6] }]],
  // As cron has it: on the 13th, and on Fridays.
  [
    '0 0 13 * 5',
    [
      { second: [0], minute: [0], hour: [0], dayOfMonth: [13] },
      { second: [0], minute: [0], hour: [0], dayOfWeek: [5] },
    ],
  ],
  ['0 0 29 2 *', [{ second: [0], minute: [0], hour: [0], month: [2], dayOfMonth: [29] }]],
  ['@daily', [{ second: [0], minute: [0], hour: [0] }]],
])('%s', (cron, calendars) => {
  expect(calendarsOf(cron)).toEqual(calendars);
});

test.each([
  ['', /five fields/],
  ['* * * *', /five fields/],
  ['* * * * * *', /five fields/],
  ['60 * * * *', /60 as minute, which is 0 to 59/],
  ['-1 * * * *', /nothing as minute/],
  ['* 24 * * *', /24 as hour/],
  ['* * 0 * *', /0 as day of the month, which is 1 to 31/],
  ['* * * 13 *', /13 as month/],
  ['* * * * 8', /8 as day of the week/],
  ['* * * * FUNDAY', /FUNDAY as day of the week/],
  ['5-1 * * * *', /ends before it begins/],
  ['*/0 * * * *', /step/],
  ['1/2/3 * * * *', /step/],
  ['1-2-3 * * * *', /two ends/],
  ['1,,2 * * * *', /nothing as minute/],
  ['0 0 31 2,4 *', /a day that its months do not have/],
  ['@reboot', /five fields/],
])('%s is refused', (cron, why) => {
  expect(refusal(cron)).toMatch(why);
});

test.each([
  ['* * * * *', 60],
  ['*/5 * * * *', 300],
  ['0,59 * * * *', 60],
  ['0,50 * * * *', 600],
  ['0 * * * *', 3600],
  ['30 3,15 * * *', 43_200],
  ['59 23 * * *', 86_400],
  ['0 0 1 * *', 86_400],
  ['0 23,0 * * *', 3600],
])('%s runs %i s after each other at the least', (cron, seconds) => {
  expect(leastGapSeconds(cron)).toBe(seconds);
});

test('time zones have names', () => {
  expect(['UTC', 'Europe/Berlin', 'America/Argentina/Buenos_Aires', 'Etc/GMT+5'].map(isTimeZone)).toEqual([
    true,
    true,
    true,
    true,
  ]);
  expect(['', '+02:00', 'Europe/Atlantis', 'local time', '../UTC'].map(isTimeZone)).toEqual([
    false,
    false,
    false,
    false,
    false,
  ]);
});

test('once is one moment', () => {
  expect(calendarAt('2026-12-31T23:59:58.000000Z')).toEqual({
    second: [58],
    minute: [59],
    hour: [23],
    dayOfMonth: [31],
    month: [12],
    year: [2026],
  });
});
