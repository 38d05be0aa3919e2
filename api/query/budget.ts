/** What one list may cost: a plan that PostgreSQL finds too expensive is not begun, and what takes too long is ended. */
import { tookTooLong } from '../../database/database.ts';
import type { Statement } from '../../database/sql.ts';
import { config } from '../../runtime/config.ts';
import { metrics } from '../../runtime/metrics.ts';
import { Problem } from '../../runtime/problem.ts';
import type { ListQuery } from './parse.ts';

export interface Queryable {
  query(statement: { text: string; values: unknown[]; name?: string }): Promise<{ rows: unknown[] }>;
}

function tooExpensive(why: 'cost' | 'time', found: string): Problem {
  metrics.queriesRefused.labels(why).inc();
  return new Problem(
    'QUERY_TOO_EXPENSIVE',
    `${found}. Follow fewer relations, put conditions on fields of the listed kind beside them, or leave the count out`,
    { violations: [{ field: 'filter', message: 'is too expensive' }] },
  );
}

export const tooSlow = (): Problem =>
  tooExpensive('time', `this list was not there after ${config.queryMilliseconds} ms`);

interface Explained {
  'QUERY PLAN': [{ Plan: { 'Total Cost': number } }];
}

/** What PostgreSQL expects a statement to cost, in its own units: a page read in order is 1. */
export async function costOf(on: Queryable, { text, values }: Statement): Promise<number> {
  const { rows } = await on.query({ text: `EXPLAIN (FORMAT JSON) ${text}`, values });
  return (rows as [Explained])[0]['QUERY PLAN'][0].Plan['Total Cost'];
}

/**
 * Refuses a filter that follows relations where PostgreSQL expects too much of it. Others read their table once at most, and are not planned
 * beforehand.
 *
 * @throws Problem QUERY_TOO_EXPENSIVE
 */
export async function refuseCostly(
  on: Queryable,
  { hops }: Pick<ListQuery, 'hops'>,
  statement: Statement,
): Promise<void> {
  if (hops === 0) return;
  const cost = await costOf(on, statement);
  if (cost > config.queryCost)
    throw tooExpensive('cost', `this list would cost ${Math.ceil(cost)}, and ${config.queryCost} is what one may`);
}

/** Runs a list. @throws Problem QUERY_TOO_EXPENSIVE */
export async function withinBudget<Row>(
  on: Queryable,
  query: Pick<ListQuery, 'hops'>,
  statement: Statement,
): Promise<Row[]> {
  await refuseCostly(on, query, statement);
  try {
    return (await on.query(statement)).rows as Row[];
  } catch (error) {
    if (!tookTooLong(error)) throw error;
    throw tooSlow();
  }
}
