/** What the tests of alerts and dashboards read expressions with. */
import { parser } from '@prometheus-io/lezer-promql';
import { metrics } from '../../../runtime/metrics.ts';

const described = Object.values(metrics as unknown as Record<string, { name: string; labelNames: string[] }>);
/** Of every metric that Prometheus has read, and of the buckets of a histogram. */
const ofPrometheus = ['job', 'instance', 'le'];

/** What of an expression has one of these names in the grammar. @throws Error where it can not be read */
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

export interface Asked {
  /** Metrics that Belay does not have. */
  strangers: string[];
  /** Labels that these metrics have. */
  labels: ReadonlySet<string>;
  /** Labels that are asked for and that they do not have. */
  strangeLabels: string[];
}

export function askedBy(expr: string): Asked {
  const names = partsOf(expr, 'Identifier')
    .filter((name) => name !== 'up')
    .map((name) => name.replace(/_bucket$/, ''));
  const known = described.filter(({ name }) => names.includes(name));
  const labels = new Set([...ofPrometheus, ...known.flatMap(({ labelNames }) => labelNames)]);
  return {
    strangers: names.filter((name) => !known.some((one) => one.name === name)),
    labels,
    strangeLabels: partsOf(expr, 'LabelName').filter((label) => !labels.has(label)),
  };
}
