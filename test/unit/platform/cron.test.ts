/** What cron expressions mean, how close together their runs are, and what is said of those that mean nothing. */

import { ServiceError } from '@temporalio/client';
import { expect, test } from 'vitest';
import { checkSchedule, type ScheduleColumns } from '../../../acceptance/platform/schedule.ts';
import { schedules } from '../../../activities/platform/schedule.ts';
import type { World } from '../../../activities/world.ts';
import { CronError, calendarAt, calendarsOf, isTimeZone, leastGapSeconds } from '../../../model/platform/cron.ts';
import { TimetableError } from '../../../model/platform/timetable.ts';
import { furtherTimeZones } from '../../../model/platform/timeZones.ts';
import { ensureSchedule } from '../../../temporal/schedules.ts';

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
  const known = [
    'UTC',
    'Europe/Berlin',
    'America/Argentina/Buenos_Aires',
    'Etc/GMT+5',
    'Asia/Kolkata',
    'Asia/Calcutta',
  ];
  expect(known.filter((name) => !isTimeZone(name))).toEqual([]);
  expect(furtherTimeZones.filter((name) => !isTimeZone(name))).toEqual([]);
  for (const name of furtherTimeZones) new Intl.DateTimeFormat('en', { timeZone: name });
  const unknown = ['', '+02:00', 'Europe/Atlantis', 'local time', '../UTC', 'Factory', 'US/Pacific-New'];
  const misspelled = ['utc', 'Utc', 'europe/berlin', 'EUROPE/BERLIN', 'gmt', 'us/eastern'];
  expect([...unknown, ...misspelled].filter(isTimeZone)).toEqual([]);
});

const columns = {
  cron: '@daily',
  at: null,
  timeZone: 'UTC',
  action: 'instance.stop',
  input: {},
  targets: { filter: 'name = "a"' },
  projectId: null,
  endsWithWindow: false,
  retention: null,
} as unknown as ScheduleColumns;

test('a schedule is refused whose times Temporal does not know', () => {
  const check = (more: Partial<ScheduleColumns>) => () => checkSchedule({ ...columns, ...more });
  expect(check({})).not.toThrow();
  expect(check({ timeZone: 'utc' })).toThrow('names no time zone');
  expect(check({ cron: null, at: '2100-12-31T23:59:59.999999Z' })).not.toThrow();
  for (const at of ['2101-01-01T00:00:00.000000Z', '2200-01-01T00:00:00.000000Z', '9999-12-31T23:59:59.000000Z'])
    expect(check({ cron: null, at })).toThrow('2100');
});

/** Temporal as it answers whoever makes a schedule. */
const answering = (error: Error) => ({ schedule: { create: () => Promise.reject(error) } }) as never;
const timetable = {
  id: 's',
  workflow: 'w',
  args: [] as unknown[],
  title: 't',
  projectId: null,
  overlap: 'skip' as const,
};
const made = (error: Error) => ensureSchedule(answering(error), { ...timetable, catchupSeconds: 1, paused: false });
const ofGrpc = (code: number) =>
  new ServiceError('Failed to create schedule', {
    cause: Object.assign(new Error('no'), { code, details: 'no', metadata: {} }),
  });

test('what Temporal does not know of times is refused once, and not tried again', async () => {
  await expect(made(new TypeError('unknown time zone utc'))).rejects.toThrow(TimetableError);
  await expect(made(ofGrpc(3))).rejects.toThrow(TimetableError);
  await expect(made(ofGrpc(14))).rejects.toThrow(ServiceError);
  const temporalSchedules = { ensure: () => Promise.reject(new TimetableError('unknown time zone utc')) };
  const { publish } = schedules({ temporalSchedules } as unknown as World);
  const wanted = { ...timetable, catchupSeconds: 1, paused: false };
  await expect(publish.do({ scheduleId: 's', wanted, was: null }, {} as never)).rejects.toMatchObject({
    type: 'INVALID_ARGUMENT',
    nonRetryable: true,
  });
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
