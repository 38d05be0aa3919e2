/** Which products of a schedule stay: each rule by itself, rules together, and days as people count them. */
import { describe, expect, test } from 'vitest';
import { expired, type Product, type Retention } from '../../../model/platform/retention.ts';

const at = (moment: string): Product => ({ id: moment, createdAt: new Date(moment) });
/** One product every so many hours, back from a moment. */
const every = (hours: number, count: number, last: string): Product[] =>
  Array.from({ length: count }, (_, index) => at(new Date(Date.parse(last) - index * hours * 3_600_000).toISOString()));
const kept = (products: Product[], retention: Retention, timeZone = 'UTC', now = '2026-11-26T12:00:00Z'): string[] => {
  const gone = new Set(expired(products, retention, timeZone, new Date(now)));
  return products.flatMap(({ id }) => (gone.has(id) ? [] : [id])).sort();
};

describe('one rule', () => {
  const hourly = every(1, 72, '2026-11-26T12:00:00.000Z');

  test('without any, all stay', () => {
    expect(expired(hourly, {}, 'UTC', new Date('2030-01-01T00:00:00Z'))).toEqual([]);
  });
  test('of nothing, nothing goes', () => {
    expect(expired([], { keepLast: 1, keepDaily: 3, maxAgeSeconds: 60 }, 'UTC', new Date())).toEqual([]);
  });
  test('keepLast keeps the newest, whatever the order in which they are told', () => {
    expect(kept([...hourly].reverse(), { keepLast: 2 })).toEqual([
      '2026-11-26T11:00:00.000Z',
      '2026-11-26T12:00:00.000Z',
    ]);
  });
  test('keepLast of more than there are keeps all', () => {
    expect(kept(hourly, { keepLast: 1000 })).toHaveLength(72);
  });
  test('keepHourly keeps the newest of each hour', () => {
    const quarters = every(0.25, 12, '2026-11-26T12:45:00.000Z');
    expect(kept(quarters, { keepHourly: 2 })).toEqual(['2026-11-26T11:45:00.000Z', '2026-11-26T12:45:00.000Z']);
  });
  test('keepDaily keeps the newest of each day', () => {
    expect(kept(hourly, { keepDaily: 3 })).toEqual([
      '2026-11-24T23:00:00.000Z',
      '2026-11-25T23:00:00.000Z',
      '2026-11-26T12:00:00.000Z',
    ]);
  });
  test('days without any do not count', () => {
    const far = [at('2026-01-01T00:00:00.000Z'), at('2026-06-01T00:00:00.000Z'), at('2026-11-01T00:00:00.000Z')];
    expect(kept(far, { keepDaily: 2 })).toEqual(['2026-06-01T00:00:00.000Z', '2026-11-01T00:00:00.000Z']);
  });
  test('weeks begin on Mondays, also over the end of a year', () => {
    // Thursday, Sunday, Monday, and Monday a week later.
    const days = ['2026-12-31', '2027-01-03', '2027-01-04', '2027-01-11'].map((day) => at(`${day}T12:00:00.000Z`));
    expect(kept(days, { keepWeekly: 3 })).toEqual([
      '2027-01-03T12:00:00.000Z',
      '2027-01-04T12:00:00.000Z',
      '2027-01-11T12:00:00.000Z',
    ]);
  });
  test('keepMonthly keeps the newest of each month, of two years apart', () => {
    const days = ['2025-11-30', '2026-10-01', '2026-10-31', '2026-11-01'].map((day) => at(`${day}T12:00:00.000Z`));
    expect(kept(days, { keepMonthly: 3 })).toEqual([
      '2025-11-30T12:00:00.000Z',
      '2026-10-31T12:00:00.000Z',
      '2026-11-01T12:00:00.000Z',
    ]);
  });
  test('maxAgeSeconds alone lets go of what is older, and of nothing else', () => {
    expect(kept(hourly, { maxAgeSeconds: 2 * 3600 })).toEqual([
      '2026-11-26T10:00:00.000Z',
      '2026-11-26T11:00:00.000Z',
      '2026-11-26T12:00:00.000Z',
    ]);
  });
});

describe('rules together', () => {
  test('what any of them keeps stays', () => {
    const daily = every(24, 60, '2026-11-26T03:00:00.000Z');
    expect(kept(daily, { keepLast: 2, keepWeekly: 2, keepMonthly: 3 })).toEqual([
      '2026-09-30T03:00:00.000Z',
      '2026-10-31T03:00:00.000Z',
      '2026-11-22T03:00:00.000Z',
      '2026-11-25T03:00:00.000Z',
      '2026-11-26T03:00:00.000Z',
    ]);
  });
  test('what is too old goes, whatever keeps it', () => {
    const daily = every(24, 10, '2026-11-26T03:00:00.000Z');
    expect(kept(daily, { keepLast: 9, maxAgeSeconds: 2 * 86_400 })).toEqual([
      '2026-11-25T03:00:00.000Z',
      '2026-11-26T03:00:00.000Z',
    ]);
  });
  test('two of the very same moment are told apart', () => {
    const twins = [
      { id: 'a', createdAt: new Date('2026-11-26T03:00:00Z') },
      { id: 'b', createdAt: new Date('2026-11-26T03:00:00Z') },
    ];
    expect(kept(twins, { keepLast: 1 })).toHaveLength(1);
    expect(kept(twins, { keepLast: 1 })).toEqual(kept([...twins].reverse(), { keepLast: 1 }));
  });
  test('the oldest goes first', () => {
    expect(expired(every(1, 4, '2026-11-26T12:00:00.000Z'), { keepLast: 1 }, 'UTC', new Date())).toEqual([
      '2026-11-26T09:00:00.000Z',
      '2026-11-26T10:00:00.000Z',
      '2026-11-26T11:00:00.000Z',
    ]);
  });
});

describe('the time zone', () => {
  test('says where a day ends', () => {
    const around = ['2026-11-25T22:30:00.000Z', '2026-11-25T23:30:00.000Z'].map(at);
    expect(kept(around, { keepDaily: 1 }, 'UTC')).toEqual(['2026-11-25T23:30:00.000Z']);
    // In Berlin the second is of the next day.
    expect(kept(around, { keepDaily: 2 }, 'Europe/Berlin')).toEqual(around.map(({ id }) => id));
    // In Chatham, 13:45 ahead in its summer, both are of the next day.
    expect(kept(around, { keepDaily: 2 }, 'Pacific/Chatham')).toEqual(['2026-11-25T23:30:00.000Z']);
  });
  test('of the hour that comes twice, each is one', () => {
    // Berlin, 25 October 2026: at 3:00 summer time it is 2:00 again.
    const twice = ['2026-10-25T00:30:00.000Z', '2026-10-25T01:30:00.000Z', '2026-10-25T02:30:00.000Z'].map(at);
    expect(kept(twice, { keepHourly: 3 }, 'Europe/Berlin')).toHaveLength(3);
  });
  test('the hour that is left out is none', () => {
    // Berlin, 29 March 2026: after 1:59 comes 3:00.
    const around = every(0.5, 4, '2026-03-29T01:30:00.000Z');
    expect(kept(around, { keepHourly: 2 }, 'Europe/Berlin')).toEqual([
      '2026-03-29T00:30:00.000Z',
      '2026-03-29T01:30:00.000Z',
    ]);
  });
  test('a day of 25 hours is one day', () => {
    const hours = every(1, 25, '2026-10-25T22:00:00.000Z');
    expect(kept(hours, { keepDaily: 2 }, 'Europe/Berlin')).toEqual(['2026-10-25T22:00:00.000Z']);
  });
  test('half hours of a zone do not split an hour', () => {
    const quarters = every(0.25, 4, '2026-11-26T12:15:00.000Z');
    // In Kolkata, 5:30 ahead, from 17:00 to 17:45.
    expect(kept(quarters, { keepHourly: 4 }, 'Asia/Kolkata')).toEqual(['2026-11-26T12:15:00.000Z']);
  });
});
