/** What a benchmark finds, how it is compared, and how it is told. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';

export interface Figure {
  name: string;
  value: number;
  unit: string;
  /** The same unit, of what it is measured against in the same run; null where the value stands alone. */
  against: number | null;
  /** `value / against`. */
  ratio: number | null;
  reach: Reach | null;
  /** How it was measured, where the numbers alone would mislead. */
  note: string;
}

/** What is to be reached, of the ratio where there is one, else of the value. */
export type Reach = { atLeast: number } | { atMost: number };

/** A figure that stands alone. */
export const alone = (name: string, value: number, unit: string, reach: Reach | null, note = ''): Figure => ({
  name,
  value,
  unit,
  against: null,
  ratio: null,
  reach,
  note,
});

/** A figure beside another one that was taken in the same run. */
export const compared = (
  name: string,
  value: number,
  against: number,
  unit: string,
  reach: Reach,
  note = '',
): Figure => ({ name, value, unit, against, ratio: value / against, reach, note });

/** The value that `share` of all values do not exceed (nearest rank). */
export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? Number.NaN;
}

export const median = (values: readonly number[]): number => percentile(values, 0.5);

/** How often a row measures each side. */
export const roundsOf = (usual: number): number => Number(process.env.BELAY_BENCH_ROUNDS ?? usual);

export function reached({ value, ratio, reach }: Figure): boolean {
  if (!reach) return true;
  const shown = ratio ?? value;
  return 'atLeast' in reach ? shown >= reach.atLeast : shown <= reach.atMost;
}

const number = (value: number | null): string =>
  value === null ? '–' : value >= 100 ? value.toFixed(0) : value >= 1 ? value.toFixed(2) : value.toFixed(3);

function reachText({ ratio, reach }: Figure): string {
  if (!reach) return '–';
  const limit = 'atLeast' in reach ? `≥ ${reach.atLeast}` : `≤ ${reach.atMost}`;
  return `${ratio === null ? 'value' : 'ratio'} ${limit}`;
}

/** A table for people, notes below it. */
export function table(figures: readonly Figure[]): string {
  const rows = [
    ['name', 'value', 'unit', 'against', 'ratio', 'reach', ''],
    ...figures.map((figure) => [
      figure.name,
      number(figure.value),
      figure.unit,
      number(figure.against),
      number(figure.ratio),
      reachText(figure),
      reached(figure) ? '' : 'missed',
    ]),
  ];
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  const lines = rows.map((row) =>
    row
      .map((cell, column) =>
        column === 0 || column === 2 || column >= 5
          ? cell.padEnd(widths[column] ?? 0)
          : cell.padStart(widths[column] ?? 0),
      )
      .join('  ')
      .trimEnd(),
  );
  const notes = figures.flatMap(({ name, note }) => (note ? [`${name}: ${note}`] : []));
  return [...lines, '', ...notes].join('\n');
}

/** Rows that were not measured this time keep what they had. */
export function writeFigures(path: string, figures: readonly Figure[]): void {
  const rounded = (value: number | null): number | null => (value === null ? null : Number(value.toPrecision(4)));
  const before = existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as object) : {};
  const fresh = Object.fromEntries(
    figures.map(({ name, value, unit, against, ratio }) => [
      name,
      { value: rounded(value), unit, against: rounded(against), ratio: rounded(ratio) },
    ]),
  );
  writeFileSync(path, `${JSON.stringify({ ...before, ...fresh }, null, 2)}\n`);
}
