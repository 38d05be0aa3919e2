/** How the logic of a filter becomes SQL, whatever its names stand for; that is up to a context. */
import type { Visible } from '../../acceptance/visible.ts';
import { and, or, type Sql, sql } from '../../database/sql.ts';
import { type Comparator, type Expression, FilterError, type Segment, type Value } from './filter.ts';
import { nearest } from './nearest.ts';

/** Where a condition is put: in a query over a table of this alias, `depth` queries deep. */
export interface Scope {
  alias: Sql;
  depth: number;
  visible: Visible;
}

export type Condition = (scope: Scope) => Sql;

/** Each hop is a sub-query; nested ones multiply. */
const HOP_LIMIT = 16;
const NESTED_HOP_LIMIT = 4;

/** How many relations have been followed so far: in the whole filter, and down to here. */
export interface Budget {
  hops: { count: number };
  nested: number;
}

/** What names stand for at some place of the filter: columns and relations of a kind, or members of a JSON document. */
export interface Context {
  compare(path: Segment[], comparator: Comparator, value: Value, budget: Budget): Condition;
  some(path: Segment[], condition: Expression, budget: Budget): Condition;
  search(value: Value): Condition;
}

/** The condition of an expression whose names the context knows. */
export function compile(expression: Expression, context: Context, budget: Budget): Condition {
  switch (expression.type) {
    case 'and':
    case 'or': {
      const parts = expression.parts.map((part) => compile(part, context, budget));
      const connect = expression.type === 'and' ? and : or;
      return (scope) => connect(parts.map((part) => part(scope)));
    }
    case 'not': {
      const part = compile(expression.part, context, budget);
      // Not `NOT (…)`: that would be unknown, and so drop the row, where a field has no value.
      return (scope) => sql`((${part(scope)}) IS NOT TRUE)`;
    }
    case 'search':
      return context.search(expression.value);
    case 'some':
      return context.some(expression.path, expression.condition, budget);
    case 'comparison':
      return context.compare(expression.path, expression.comparator, expression.value, budget);
  }
}

/** Takes one more relation or list into account. Throws FilterError when they are too many. */
export function hop(budget: Budget, position: number): Budget {
  budget.hops.count += 1;
  if (budget.hops.count > HOP_LIMIT) throw new FilterError(`a filter follows at most ${HOP_LIMIT} relations`, position);
  if (budget.nested >= NESTED_HOP_LIMIT) {
    throw new FilterError(`a filter follows at most ${NESTED_HOP_LIMIT} relations in a row`, position);
  }
  return { hops: budget.hops, nested: budget.nested + 1 };
}

export function firstOf(path: Segment[]): Segment {
  const [first] = path;
  if (!first) throw new Error('a path has at least one name');
  return first;
}

export function unknownName(segment: Segment, what: string, names: string[]): FilterError {
  const near = nearest(segment.name, names);
  const hint = near.length > 0 ? `; did you mean ${near.join(', ')}?` : '';
  return new FilterError(`\`${segment.name.slice(0, 64)}\` is no ${what}${hint}`, segment.position);
}
