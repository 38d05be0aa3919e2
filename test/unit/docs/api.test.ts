import { describe, expect, it } from 'vitest';
import { compileFilter } from '../../../api/query/compile.ts';
import { parseFilter } from '../../../api/query/filter.ts';
import { kindOf } from '../../../model/kinds.ts';
import { builtInRoles } from '../../../model/tenancy/builtInRoles.ts';
import { problemStatus } from '../../../runtime/problem.ts';
import { readText, rowsBelow } from './documentation.ts';

const page = readText('docs/api.md');

describe('docs/api.md', () => {
  const filters = rowsBelow(page, '### Filters');

  it('has filters', () => expect(filters.length).toBeGreaterThan(15));

  it.each(filters)('a list of %s takes the filter %s', (kind, filter) => {
    const expression = parseFilter(filter ?? '');
    if (!expression) throw new Error('the filter is empty');
    expect(compileFilter(kindOf(kind ?? ''), expression)).toBeTypeOf('function');
  });

  it('tells every error code with its status, and no other', () => {
    const told = rowsBelow(page, '## Problems').map(([code, status]) => [code, Number(status)]);
    expect(Object.fromEntries(told)).toEqual(problemStatus);
  });

  it('tells every ready-made role with where it is bound', () => {
    const told = rowsBelow(page, '## Roles').map(([role, boundAt]) => [role, boundAt]);
    expect(told).toEqual(Object.entries(builtInRoles).map(([role, { boundAt }]) => [role, boundAt]));
  });
});
