import { describe, expect, it } from 'vitest';
import { operationStates } from '../../../model/platform/operation.ts';
import { metrics } from '../../../runtime/metrics.ts';
import { readText, rowsBelow } from './documentation.ts';

const page = readText('docs/operations.md');

interface Described {
  name: string;
  labelNames: string[];
}

describe('docs/operations.md', () => {
  it('tells every metric with its labels, and no other', () => {
    const told = rowsBelow(page, '## Metrics').map(([name, labels]) => [name, labels?.match(/\w+/g) ?? []]);
    const real = Object.values(metrics as unknown as Record<string, Described>).map(({ name, labelNames }) => [
      name,
      labelNames,
    ]);
    expect(Object.fromEntries(told)).toEqual(Object.fromEntries(real));
  });

  it('tells every state of an operation', () => {
    const told = rowsBelow(page, '## An operation').map(([state]) => state);
    expect([...told].sort()).toEqual([...operationStates].sort());
  });
});
