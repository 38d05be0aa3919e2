/** The dashboards for Grafana: each panel asks for metrics and labels that there are, and lies where no other does. */
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { readText } from '../docs/documentation.ts';
import { askedBy } from './promql.ts';

interface Panel {
  id: number;
  title: string;
  gridPos: { x: number; y: number; w: number; h: number };
  targets: { expr: string; legendFormat: string }[];
}

interface Dashboard {
  uid: string;
  title: string;
  panels: Panel[];
}

const folder = fileURLToPath(new URL('../../../deploy/grafana', import.meta.url));
const dashboards = readdirSync(folder).map((file) => JSON.parse(readText(`deploy/grafana/${file}`)) as Dashboard);

/** Grafana's own word for a span that fits. */
const asAsked = (expr: string): string => expr.replaceAll('$__rate_interval', '5m');

describe.each(dashboards.map((one) => [one.title, one] as const))('%s', (_, { panels }) => {
  it.each(panels.flatMap(({ title, targets }) => targets.map((target) => [title, target] as const)))(
    '%s asks for metrics and labels that there are',
    (_title, { expr, legendFormat }) => {
      const asked = askedBy(asAsked(expr));
      expect([asked.strangers, asked.strangeLabels]).toEqual([[], []]);
      const told = [...legendFormat.matchAll(/\{\{(\w+)\}\}/g)].map(([, label]) => label ?? '');
      expect(told.filter((label) => !asked.labels.has(label))).toEqual([]);
    },
  );

  it('no panel lies over another, and each has an id of its own', () => {
    expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length);
    const cells = panels.flatMap(({ gridPos: { x, y, w, h } }) =>
      Array.from({ length: w * h }, (__, at) => `${x + (at % w)}/${y + Math.floor(at / w)}`),
    );
    expect(new Set(cells).size).toBe(cells.length);
    expect(Math.max(...panels.map(({ gridPos: { x, w } }) => x + w))).toBeLessThanOrEqual(24);
  });
});

it('each has an address of its own', () => {
  expect(dashboards.length).toBeGreaterThan(0);
  expect(new Set(dashboards.map(({ uid }) => uid)).size).toBe(dashboards.length);
});
