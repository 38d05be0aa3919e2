/** Times that recur, written as five fields of cron: minute, hour, day of the month, month, day of the week. */

import type { Calendar } from './timetable.ts';
import { furtherTimeZones } from './timeZones.ts';

interface FieldOf {
  name: string;
  least: number;
  most: number;
  names?: readonly string[];
}

const months = ['JAN', 'FEB', 'MAR', 'APR', 'MAY', 'JUN', 'JUL', 'AUG', 'SEP', 'OCT', 'NOV', 'DEC'];
const days = ['SUN', 'MON', 'TUE', 'WED', 'THU', 'FRI', 'SAT'];

const minute: FieldOf = { name: 'minute', least: 0, most: 59 };
const hour: FieldOf = { name: 'hour', least: 0, most: 23 };
const dayOfMonth: FieldOf = { name: 'day of the month', least: 1, most: 31 };
const month: FieldOf = { name: 'month', least: 1, most: 12, names: months };
/** 7 is Sunday, too. */
const dayOfWeek: FieldOf = { name: 'day of the week', least: 0, most: 7, names: days };

/** Says what is wrong, as what follows the name of the field in a problem. */
export class CronError extends Error {}

const short: Record<string, string> = {
  '@hourly': '0 * * * *',
  '@daily': '0 0 * * *',
  '@weekly': '0 0 * * 0',
  '@monthly': '0 0 1 * *',
};

function numberIn({ name, least, most, names }: FieldOf, text: string): number {
  const named = names?.indexOf(text.toUpperCase()) ?? -1;
  const value = named >= 0 ? named + least : /^\d{1,2}$/.test(text) ? Number(text) : Number.NaN;
  if (!(value >= least && value <= most))
    throw new CronError(`has ${text === '' ? 'nothing' : text.slice(0, 32)} as ${name}, which is ${least} to ${most}`);
  return value;
}

/** The values of a field, in order; null when it is `*`. */
function valuesOf(field: FieldOf, text: string): number[] | null {
  if (text === '*') return null;
  const values = new Set<number>();
  for (const part of text.split(',')) {
    const [range = '', step, ...more] = part.split('/');
    if (more.length > 0 || (step !== undefined && !/^[1-9]\d?$/.test(step)))
      throw new CronError(`has ${part.slice(0, 32)} as ${field.name}: a step is a number behind one slash`);
    const [first = '', last, ...rest] = range.split('-');
    if (rest.length > 0) throw new CronError(`has ${part.slice(0, 32)} as ${field.name}: a range has two ends`);
    const from = first === '*' ? field.least : numberIn(field, first);
    const to = last !== undefined ? numberIn(field, last) : first === '*' || step !== undefined ? field.most : from;
    if (to < from) throw new CronError(`has ${part.slice(0, 32)} as ${field.name}, which ends before it begins`);
    for (let value = from; value <= to; value += Number(step ?? 1)) values.add(value);
  }
  return [...values].sort((a, b) => a - b);
}

const longest = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/**
 * The calendars that a cron expression means. As cron has it, a day fits when the day of the month or the day of the week does, where both are given.
 *
 * @throws CronError
 */
export function calendarsOf(cron: string): Calendar[] {
  const fields = (short[cron.trim().toLowerCase()] ?? cron).trim().split(/\s+/);
  if (fields.length !== 5)
    throw new CronError(
      'must have five fields: minute, hour, day of the month, month, day of the week, such as 30 3 * * MON-FRI',
    );
  const [m = '', h = '', dom = '', mon = '', dow = ''] = fields;
  const inDay = { minute: valuesOf(minute, m), hour: valuesOf(hour, h), month: valuesOf(month, mon) };
  const ofMonth = valuesOf(dayOfMonth, dom);
  const weekly = valuesOf(dayOfWeek, dow);
  const ofWeek = weekly && [...new Set(weekly.map((day) => day % 7))].sort((a, b) => a - b);
  const least = ofMonth?.[0];
  const among = inDay.month ?? months.map((_, index) => index + 1);
  if (least !== undefined && !ofWeek && !among.some((one) => least <= (longest[one - 1] ?? 0)))
    throw new CronError('names a day that its months do not have');
  const given = Object.fromEntries(Object.entries(inDay).filter(([, values]) => values !== null));
  const days: Partial<Calendar>[] = [
    ...(ofMonth ? [{ dayOfMonth: ofMonth }] : []),
    ...(ofWeek ? [{ dayOfWeek: ofWeek }] : []),
  ];
  return (days.length > 0 ? days : [{}]).map((day): Calendar => ({ second: [0], ...given, ...day }));
}

const daySeconds = 86_400;

/** So many seconds lie between two runs at the least, changes of the clock aside. @throws CronError */
export function leastGapSeconds(cron: string): number {
  const calendars = calendarsOf(cron);
  const [first] = calendars;
  const all = (count: number): number[] => Array.from({ length: count }, (_, index) => index);
  const moments = (first?.hour ?? all(24))
    .flatMap((h) => (first?.minute ?? all(60)).map((m) => (h * 60 + m) * 60))
    .sort((a, b) => a - b);
  const gaps = moments.map((moment, index) => (moments[index + 1] ?? daySeconds + (moments[0] ?? 0)) - moment);
  return Math.min(...gaps);
}

const timeZones = new Set([...Intl.supportedValuesOf('timeZone'), ...furtherTimeZones]);

/** Whether there is a time zone of this name (IANA), spelled just so: what runs schedules knows `UTC`, and no `utc`. */
export const isTimeZone = (name: string): boolean => timeZones.has(name);

/** The one moment of a schedule that runs once. */
export function calendarAt(at: string): Calendar {
  const moment = new Date(at);
  return {
    second: [moment.getUTCSeconds()],
    minute: [moment.getUTCMinutes()],
    hour: [moment.getUTCHours()],
    dayOfMonth: [moment.getUTCDate()],
    month: [moment.getUTCMonth() + 1],
    year: [moment.getUTCFullYear()],
  };
}
