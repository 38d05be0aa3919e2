/** Which resources a filter finds, by their ids: for what is done with many. */
import type { Caller } from '../../acceptance/caller.ts';
import { mayAsk, visibleTo } from '../../acceptance/visible.ts';
import { sql } from '../../database/sql.ts';
import type { Kind } from '../../model/kind.ts';
import { Problem } from '../../runtime/problem.ts';
import { type Queryable, withinBudget } from './budget.ts';
import { ProblemInput, parseListQuery } from './parse.ts';
import { type ListRow, listBody, listStatement } from './read.ts';

/** @throws Problem where the filter is wrong, blaming `field` */
export function checkFilter(kind: Kind, filter: string, field: string): void {
  try {
    parseListQuery(kind, { filter });
  } catch (error) {
    if (!(error instanceof ProblemInput)) throw error;
    throw new Problem(error.code, `${field}: ${error.message}`, {
      violations: error.violations.map((violation) => ({ ...violation, field })),
    });
  }
}

/**
 * The oldest first, at most `most`, in one project where one is said. What the caller may not list is not found.
 *
 * @throws Problem where the filter is wrong, or too expensive
 */
export async function findIds(
  on: Queryable,
  caller: Caller,
  kind: Kind,
  filter: string,
  { projectId, most }: { projectId: string | null; most: number },
): Promise<string[]> {
  checkFilter(kind, filter, 'filter');
  if (!mayAsk(caller, kind, 'list')) throw new Problem('FORBIDDEN', `you need the permission ${kind.name}.list`);
  const ids: string[] = [];
  let pageToken: string | null = null;
  do {
    const asked = parseListQuery(kind, {
      filter,
      fields: 'id',
      orderBy: 'createdAt',
      pageSize: 500,
      ...(pageToken ? { pageToken } : {}),
    });
    const { filter: met } = asked;
    const query =
      projectId === null
        ? asked
        : {
            ...asked,
            filter: (scope: Parameters<NonNullable<typeof met>>[0]) =>
              met
                ? sql`(${met(scope)} AND ${scope.alias}."projectId" = ${projectId}::uuid)`
                : sql`${scope.alias}."projectId" = ${projectId}::uuid`,
          };
    const [row] = await withinBudget<ListRow>(on, query, listStatement(kind, query, visibleTo(caller, 'list')));
    if (!row) throw new Error('a list answers one row');
    const page = JSON.parse(listBody(query, row)) as { items: { id: string }[]; nextPageToken: string | null };
    ids.push(...page.items.map(({ id }) => id));
    pageToken = page.nextPageToken;
  } while (pageToken !== null && ids.length < most);
  return ids.slice(0, most);
}
