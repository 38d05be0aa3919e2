/** Lists, as their callers may see them. */
import type { Caller } from '../acceptance/caller.ts';
import { mayAsk, visibleTo } from '../acceptance/visible.ts';
import type { Transaction } from '../database/database.ts';
import type { Kind } from '../model/kind.ts';
import { config } from '../runtime/config.ts';
import { Problem } from '../runtime/problem.ts';
import { type Queryable, tooSlow, withinBudget } from './query/budget.ts';
import { type ListQuery, ProblemInput, parseListQuery } from './query/parse.ts';
import { type ListRow, listBody, listStatement } from './query/read.ts';
import type { Api } from './request.ts';
import { turnsOf } from './turns.ts';

/** @throws Problem FORBIDDEN */
export function mayList(caller: Caller, kind: Kind): void {
  if (!mayAsk(caller, kind, 'list')) throw new Problem('FORBIDDEN', `you need the permission ${kind.name}.list`);
}

/** What callers decide the cost of: an account has a quarter of the connections for it at the most. */
const searches = turnsOf(Math.ceil(config.searchConnections / 2), { alone: Math.ceil(config.searchConnections / 4) });

export async function search<T>(
  { search: { connections } }: Api,
  { accountId }: Caller,
  work: (on: Transaction) => Promise<T>,
): Promise<T> {
  const done = await searches.take(accountId);
  try {
    const client = await connections.connect();
    try {
      return await work(client);
    } finally {
      client.release();
    }
  } finally {
    done();
  }
}

/** One page, as its body. */
async function ask(on: Queryable, caller: Caller, kind: Kind, query: ListQuery): Promise<string> {
  const [row] = await withinBudget<ListRow>(on, query, listStatement(kind, query, visibleTo(caller, 'list')));
  if (!row) throw new Error('a list answers one row');
  return listBody(query, row);
}

export async function list(api: Api, caller: Caller, kind: Kind, raw: Record<string, unknown>): Promise<string> {
  mayList(caller, kind);
  const query = parseListQuery(kind, raw);
  if (query.filter === null && query.count === 'none') return ask(api.database.connections, caller, kind, query);
  return search(api, caller, (on) => ask(on, caller, kind, query));
}

export interface Wanted {
  name: string;
  kind: Kind;
  raw: Record<string, unknown>;
}

/** All lists together may take as long as one. */
export async function inOneSnapshot(
  on: Transaction,
  caller: Caller,
  wanted: Wanted[],
): Promise<Record<string, string>> {
  const until = Date.now() + config.queryMilliseconds;
  await on.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY');
  try {
    const parts: Record<string, string> = {};
    for (const { name, kind, raw } of wanted) {
      try {
        if (Date.now() > until) throw tooSlow();
        parts[name] = await ask(on, caller, kind, parseListQuery(kind, raw));
      } catch (error) {
        throw blaming(name, error);
      }
    }
    return parts;
  } finally {
    await on.query('ROLLBACK').catch(() => {});
  }
}

/** Which of several lists is wrong. */
function blaming(name: string, error: unknown): unknown {
  if (!(error instanceof ProblemInput || error instanceof Problem)) return error;
  const { violations = [], ...details } = error instanceof Problem ? error.details : { violations: error.violations };
  return new Problem(error.code, `${name}: ${error.message}`, {
    ...details,
    violations: violations.map((violation) => ({ ...violation, field: `${name}.${violation.field}` })),
  });
}
