/** Which of the things that a schedule has made stay. */

/** Of each rule, how many hours, days, … that have something keep their newest. What no rule keeps goes; without rules, nothing does but by age. */
export interface Retention {
  keepLast?: number;
  keepHourly?: number;
  keepDaily?: number;
  keepWeekly?: number;
  keepMonthly?: number;
  /** What is older goes, whatever else would keep it. */
  maxAgeSeconds?: number;
}

export interface Product {
  id: string;
  createdAt: Date;
}

interface Local {
  year: number;
  month: number;
  day: number;
  hour: number;
  /** Of the zone at that moment, so that the hour that comes twice in autumn is two. */
  offset: string;
}

function localOf(timeZone: string): (moment: Date) => Local {
  const format = new Intl.DateTimeFormat('en-US', {
    timeZone,
    hourCycle: 'h23',
    year: 'numeric',
    month: 'numeric',
    day: 'numeric',
    hour: 'numeric',
    timeZoneName: 'longOffset',
  });
  return (moment) => {
    const parts = new Map(format.formatToParts(moment).map(({ type, value }) => [type, value]));
    const number = (name: Intl.DateTimeFormatPartTypes): number => Number(parts.get(name));
    return {
      year: number('year'),
      month: number('month'),
      day: number('day'),
      hour: number('hour'),
      offset: parts.get('timeZoneName') ?? '',
    };
  };
}

const dayMs = 86_400_000;

/** Weeks begin on Mondays: how many have begun since a Monday in 1970. */
const weekOf = ({ year, month, day }: Local): number =>
  Math.floor((Date.UTC(year, month - 1, day) - Date.UTC(1970, 0, 5)) / (7 * dayMs));

const periods: readonly { rule: keyof Retention; of(local: Local): string }[] = [
  { rule: 'keepHourly', of: ({ year, month, day, hour, offset }) => `${year}-${month}-${day} ${hour} ${offset}` },
  { rule: 'keepDaily', of: ({ year, month, day }) => `${year}-${month}-${day}` },
  { rule: 'keepWeekly', of: (local) => String(weekOf(local)) },
  { rule: 'keepMonthly', of: ({ year, month }) => `${year}-${month}` },
];

/** Ids of those that go, the oldest first. Hours, days, weeks and months are those of the schedule's time zone. */
export function expired(products: readonly Product[], retention: Retention, timeZone: string, now: Date): string[] {
  const newestFirst = [...products].sort(
    (a, b) => b.createdAt.getTime() - a.createdAt.getTime() || (a.id < b.id ? 1 : -1),
  );
  const { keepLast, maxAgeSeconds } = retention;
  const rules = periods.filter(({ rule }) => retention[rule] !== undefined);
  const kept = new Set<string>();
  if (keepLast === undefined && rules.length === 0) for (const { id } of products) kept.add(id);
  for (const { id } of newestFirst.slice(0, keepLast ?? 0)) kept.add(id);
  const local = localOf(timeZone);
  for (const { rule, of } of rules) {
    const seen = new Set<string>();
    for (const { id, createdAt } of newestFirst) {
      const period = of(local(createdAt));
      if (seen.has(period)) continue;
      if (seen.size === retention[rule]) break;
      seen.add(period);
      kept.add(id);
    }
  }
  const tooOld = ({ createdAt }: Product): boolean =>
    maxAgeSeconds !== undefined && now.getTime() - createdAt.getTime() > maxAgeSeconds * 1000;
  return newestFirst
    .filter((product) => !kept.has(product.id) || tooOld(product))
    .reverse()
    .map(({ id }) => id);
}
