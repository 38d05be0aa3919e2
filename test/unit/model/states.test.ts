import { describe, expect, it } from 'vitest';
import { columnsOf } from '../../../model/columns.ts';
import { allKinds } from '../../../model/kinds.ts';

describe.each(allKinds.filter(({ states }) => states).map((kind) => [kind.name, kind] as const))('%s', (_, kind) => {
  const state = columnsOf(kind).find(({ name }) => name === 'state');
  const told = (state?.schema.enum ?? []) as string[];

  it('tells every state that an action names', () => {
    const named = Object.values(kind.actions).flatMap(({ from = [], via, to }) => [...from, via, to]);
    expect(named.filter((name) => name !== undefined && !told.includes(name))).toEqual([]);
  });

  it('tells the state of what could not be made', () => {
    if (kind.actions.create?.mode === 'operation') expect(told).toContain('failed');
  });
});
