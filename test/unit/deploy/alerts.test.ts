/** The alerts for Prometheus: each can be read, asks for metrics and labels that there are, and leads to a page that is about it. */
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parser } from '@prometheus-io/lezer-promql';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { metrics } from '../../../runtime/metrics.ts';
import { readText } from '../docs/documentation.ts';

interface Alert {
  alert: string;
  expr: string;
  for: string;
  labels: { severity: string };
  annotations: { summary: string; description: string; runbook: string };
}

const { groups } = parse(readText('deploy/prometheus/belay.rules.yaml')) as { groups: { rules: Alert[] }[] };
const alerts = groups.flatMap(({ rules }) => rules);
const described = Object.values(metrics as unknown as Record<string, { name: string; labelNames: string[] }>);
/** Prometheus' own, and that of a histogram's buckets. */
const ofPrometheus = ['job', 'instance', 'le'];

/** What of an expression has which name in the grammar. */
function partsOf(expr: string, ...names: string[]): string[] {
  const found: string[] = [];
  parser.parse(expr).iterate({
    enter({ name, from, to, type }) {
      if (type.isError) throw new Error(`can not be read from here: ${expr.slice(from) || 'its end'}`);
      if (names.includes(name)) found.push(expr.slice(from, to));
    },
  });
  return found;
}

describe.each(alerts.map((alert) => [alert.alert, alert] as const))('%s', (name, alert) => {
  const asked = partsOf(alert.expr, 'Identifier').filter((metric) => metric !== 'up');
  const base = asked.map((metric) => metric.replace(/_bucket$/, ''));

  it('asks for metrics that there are', () => {
    expect(base.filter((metric) => !described.some((one) => one.name === metric))).toEqual([]);
  });

  it('asks for labels that they have', () => {
    const known = new Set([
      ...ofPrometheus,
      ...described.filter(({ name: one }) => base.includes(one)).flatMap(({ labelNames }) => labelNames),
    ]);
    expect(partsOf(alert.expr, 'LabelName').filter((label) => !known.has(label))).toEqual([]);
    const told = [...alert.annotations.description.matchAll(/\$labels\.(\w+)/g)].map(([, label]) => label);
    expect(told.filter((label) => !known.has(label ?? ''))).toEqual([]);
  });

  it('says how urgent it is, and leads to a page about it', () => {
    expect(['page', 'ticket']).toContain(alert.labels.severity);
    const page = readText(alert.annotations.runbook);
    expect(page).toContain(`\`${name}\``);
    for (const part of ['What it means', 'What users notice', 'Look', 'Do', 'It is over'])
      expect(page).toContain(`**${part}`);
  });
});

it('there is no page without its alert', () => {
  const folder = fileURLToPath(new URL('../../../docs/runbooks', import.meta.url));
  expect(
    readdirSync(folder)
      .map((file) => `docs/runbooks/${file}`)
      .sort(),
  ).toEqual(alerts.map(({ annotations }) => annotations.runbook).sort());
});
