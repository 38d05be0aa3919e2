/** The alerts for Prometheus: each can be read, asks for metrics and labels that there are, and leads to a page that is about it. */
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { readText } from '../docs/documentation.ts';
import { askedBy } from './promql.ts';

interface Alert {
  alert: string;
  expr: string;
  labels: { severity: string };
  annotations: { summary: string; description: string; runbook: string };
}

const { groups } = parse(readText('deploy/prometheus/belay.rules.yaml')) as { groups: { rules: Alert[] }[] };
const alerts = groups.flatMap(({ rules }) => rules);

describe.each(alerts.map((alert) => [alert.alert, alert] as const))('%s', (name, { expr, labels, annotations }) => {
  it('asks for metrics and labels that there are', () => {
    const asked = askedBy(expr);
    expect([asked.strangers, asked.strangeLabels]).toEqual([[], []]);
    const told = [...annotations.description.matchAll(/\$labels\.(\w+)/g)].map(([, label]) => label ?? '');
    expect(told.filter((label) => !asked.labels.has(label))).toEqual([]);
  });

  it('says how urgent it is, and leads to a page about it', () => {
    expect(['page', 'ticket']).toContain(labels.severity);
    const page = readText(annotations.runbook);
    expect(page).toContain(`\`${name}\``);
    for (const part of ['What it means', 'What users notice', 'Look', 'Do', 'It is over'])
      expect(page).toContain(`**${part}`);
  });
});

it('there is no page without its alert', () => {
  const folder = fileURLToPath(new URL('../../../docs/runbooks', import.meta.url));
  const pages = readdirSync(folder).map((file) => `docs/runbooks/${file}`);
  expect(pages.sort()).toEqual(alerts.map(({ annotations }) => annotations.runbook).sort());
});
