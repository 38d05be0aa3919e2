/**
 * What callers shape has a builder of its own, `database/sql.ts`: which columns, conditions and joins there are follows from the filter, the kind and the
 * rights of who asks. `test/database/read.test.ts` runs what it makes of every kind.
 */
export const shapedByCallers: readonly string[] = [
  'acceptance/dependents.ts',
  'acceptance/platform/operation.ts',
  'acceptance/veil.ts',
  'acceptance/visible.ts',
  'api/events.ts',
  'api/query/budget.ts',
  'api/query/compile.ts',
  'api/query/condition.ts',
  'api/query/find.ts',
  'api/query/json.ts',
  'api/query/read.ts',
  'api/query/relations.ts',
  'api/query/scalars.ts',
];
