/**
 * Reads as one SQL statement each. PostgreSQL makes the JSON; the server passes its text on without looking into it.
 *
 * A page is found by the order keys of the last resource of the page before (keyset), never by counting rows, so that the
 * hundredth page costs what the first does.
 */

import type { Visible } from '../../acceptance/visible.ts';
import { and, identifier, join, or, raw, render, type Sql, type Statement, sql } from '../../database/sql.ts';
import { type Column, columnsOf } from '../../model/columns.ts';
import { instantFormat } from '../../model/forms.ts';
import type { Kind } from '../../model/kind.ts';
import { kindOf } from '../../model/kinds.ts';
import type { Condition, Scope } from './compile.ts';
import { type ListQuery, orderColumns } from './parse.ts';
import { type TokenValue, writeToken } from './token.ts';

export interface GetOptions {
  visible: Visible;
  /** Told fields; null or absent for all. */
  fields?: readonly string[] | null;
  /** Find it also when it is deleted. */
  showDeleted?: boolean;
}

const t0 = identifier('t0');

/** What a read by id answers; the resource as JSON text. */
export interface GotRow {
  id: string;
  json: string;
  revision: number;
  projectId?: string | null;
}

/** Rows of those ids, lowercase, that there are and that the caller may see; in no order. */
export function getStatement(
  kind: Kind,
  ids: readonly string[],
  { visible, fields = null, showDeleted = false }: GetOptions,
): Statement {
  const memoKey = fields === null ? `${kind.name} ${showDeleted}` : null;
  const known = memoKey === null ? undefined : statementMemo.get(visible)?.get(memoKey);
  if (known) return { ...known.statement, values: known.statement.values.with(known.at, ids) };
  const scope: Scope = { alias: t0, depth: 0, visible };
  const facts = columnsOf(kind).filter(({ name }) => name === 'id' || name === 'revision' || name === 'projectId');
  const source = sql`SELECT row_to_json(r)::text AS "json", ${join(facts.map((column) => columnOf(column, t0)))}
FROM ${identifier(kind.name)} AS ${t0} CROSS JOIN LATERAL (SELECT ${answeredColumns(kind, fields, t0, visible)}) AS r
WHERE ${and([sql`${t0}."id" = ANY(${ids}::uuid[])`, ...among(kind, scope, showDeleted)])}`;
  const statement = render(source, { lasting: fields === null });
  if (memoKey !== null) {
    const memo = statementMemo.get(visible) ?? new Map<string, Asked>();
    statementMemo.set(visible, memo.set(memoKey, { statement, at: statement.values.indexOf(ids) }));
  }
  return statement;
}

/** A statement of whole resources, and which of its parameters is the ids. */
interface Asked {
  statement: Statement;
  at: number;
}

/** By caller: their text is always the same. */
const statementMemo = new WeakMap<Visible, Map<string, Asked>>();

/** The one row of a list. */
export interface ListRow {
  /** JSON array of the page's resources. */
  items: string;
  /** JSON array of the last one's order keys; null on the last page. */
  last: string | null;
  /** All that the query finds, when that was asked; `pg` gives a bigint as text. */
  count?: string;
}

/** One row, a ListRow, whatever is found. */
export function listStatement(kind: Kind, query: ListQuery, visible: Visible): Statement {
  const scope: Scope = { alias: t0, depth: 0, visible };
  const found = [...among(kind, scope, query.showDeleted), ...(query.filter ? [query.filter(scope)] : [])];
  const p = identifier('p');
  const keys = orderColumns(kind, query.orderBy).map((column) => toldValue(column, p));
  const count =
    query.count === 'exact'
      ? sql`, (SELECT count(*) FROM ${identifier(kind.name)} AS ${t0} WHERE ${and(found)}) AS "count"`
      : raw('');
  const source = sql`SELECT '[' || coalesce(string_agg(row_to_json(r)::text, ',') FILTER (WHERE p."#" <= ${query.pageSize}::int), '') || ']' AS "items",
CASE WHEN count(*) > ${query.pageSize}::int THEN max(json_build_array(${join(keys)})::text) FILTER (WHERE p."#" = ${query.pageSize}::int) END AS "last"${count}
FROM (SELECT row_number() OVER () AS "#", s.* FROM (${page(kind, query, found)}) AS s) AS p
CROSS JOIN LATERAL (SELECT ${answeredColumns(kind, query.fields, p, visible)}) AS r
WHERE p."#" <= ${query.pageSize + 1}::int`;
  // A plan for all values takes any list for ten long, finds ten projects in half the table, and reads all of it for a
  // tenant who has little. Without a name the statement is planned for its own values.
  if (visible(kind, t0)?.values.some(Array.isArray)) return render(source, { named: false });
  return render(source, { lasting: query.filter === null && query.fields === null });
}

/** The body of a list's answer: `{"items":[…],"nextPageToken":…}`, with `count` when that was asked. */
export function listBody(query: Pick<ListQuery, 'digest'>, row: ListRow): string {
  const token = row.last === null ? 'null' : `"${writeToken(query.digest, row.last)}"`;
  const count = row.count === undefined ? '' : `,"count":${row.count}`;
  return `{"items":${row.items},"nextPageToken":${token}${count}}`;
}

/** Rows `{ sequence, type, json }` of the events after a sequence number, in order; at most `limit`. */
export function eventsStatement(
  afterSequence: number | string,
  limit: number,
  filter: Condition | null,
  visible: Visible,
): Statement {
  const event = kindOf('event');
  const scope: Scope = { alias: t0, depth: 0, visible };
  const found = [
    sql`${t0}."sequence" > ${afterSequence}::bigint`,
    ...among(event, scope, true),
    ...(filter ? [filter(scope)] : []),
  ];
  const source = sql`SELECT s."sequence"::text AS "sequence", s."type", row_to_json(r)::text AS "json"
FROM (SELECT ${t0}.* FROM "event" AS ${t0} WHERE ${and(found)} ORDER BY ${t0}."sequence", ${t0}."id" LIMIT ${limit}::int) AS s
CROSS JOIN LATERAL (SELECT ${answeredColumns(event, null, identifier('s'), visible)}) AS r`;
  return render(source, { lasting: filter === null });
}

// --------------------------------------------------------------------------------------------- what is told

/** Which rows of a kind there are for the caller at all. */
function among(kind: Kind, { alias, visible }: Scope, showDeleted: boolean): Sql[] {
  const seen = visible(kind, alias);
  return [...(showDeleted ? [] : [sql`${alias}."deletedAt" IS NULL`]), ...(seen ? [sql`(${seen})`] : [])];
}

const columnOf = ({ name }: Column, alias: Sql): Sql => sql`${alias}.${identifier(name)}`;

/** A column as JSON tells it. PostgreSQL's own JSON of an instant ends in `+00:00`, and only if the session is in UTC. */
const toldValue = (column: Column, alias: Sql): Sql =>
  column.type === 'timestamptz'
    ? sql`to_char(${columnOf(column, alias)} AT TIME ZONE 'UTC', ${raw(`'${instantFormat}'`)})`
    : columnOf(column, alias);

const toldMemo = new Map<string, Sql>();

/** The select list of what is told. Hidden columns are never in it, whatever `fields` says. */
function answeredColumns(kind: Kind, fields: readonly string[] | null, alias: Sql, { veil }: Visible): Sql {
  const memoKey = fields === null && !veil ? `${kind.name} ${alias.texts[0]}` : null;
  const known = memoKey === null ? undefined : toldMemo.get(memoKey);
  if (known) return known;
  const columns = columnsOf(kind).filter(
    (column) => !column.hidden && (fields === null || column.name === 'id' || fields.includes(column.name)),
  );
  const list = join(
    columns.map(
      (column) => sql`${veil?.column(column, alias) ?? toldValue(column, alias)} AS ${identifier(column.name)}`,
    ),
  );
  if (memoKey !== null) toldMemo.set(memoKey, list);
  return list;
}

// ---------------------------------------------------------------------------------------------------- pages

/** Page sizes are parameters, which the planner can not see; it plans for the next of these instead. */
const PLANNED_SIZES = [20, 50, 100, 200, 500];

interface Key {
  column: Column;
  descending: boolean;
  value: Sql;
  /** The key's value in the page token; null for a missing value. */
  last: TokenValue;
}

/** The rows of a page and a little more, in order; the caller cuts them to size. */
function page(kind: Kind, query: ListQuery, found: readonly Sql[]): Sql {
  const keys = orderColumns(kind, query.orderBy).map(
    (column, at): Key => ({
      column,
      descending: query.orderBy[at]?.descending ?? false,
      value: columnOf(column, t0),
      last: query.after?.[at] ?? null,
    }),
  );
  const limit = PLANNED_SIZES.find((size) => size >= query.pageSize) ?? query.pageSize;
  const rows = (conditions: readonly Sql[], order: Sql): Sql =>
    sql`SELECT ${t0}.* FROM ${identifier(kind.name)} AS ${t0} WHERE ${and(conditions)} ORDER BY ${order} LIMIT ${raw(String(limit + 1))}`;

  const [first] = keys;
  if (first && keys.length === 2 && first.column.nullable) return pageOfNullable(keys, first, query, found, rows);
  const after = query.after ? keysAfter(keys) : [];
  return rows([...found, ...after], join(keys.map(order)));
}

/**
 * One order key that may be missing: those that have it, then those that have not. Apart, both parts are ranges of the
 * key's index in either direction; together, `NULLS LAST` against the index's own order would sort the whole table.
 */
function pageOfNullable(
  keys: readonly Key[],
  first: Key,
  query: ListQuery,
  found: readonly Sql[],
  rows: (conditions: readonly Sql[], order: Sql) => Sql,
): Sql {
  const inIndexOrder = join(keys.map(({ value, descending }) => sql`${value} ${direction(descending)}`));
  const last = query.after ? keys.map((key) => key.last) : null;
  const present = [...found, sql`${first.value} IS NOT NULL`, ...(last ? [rowAfter(keys)] : [])];
  const id = keys.slice(1);
  const missing = [...found, sql`${first.value} IS NULL`, ...(last && first.last === null ? [rowAfter(id)] : [])];
  const missingRows = rows(missing, inIndexOrder);
  if (last && first.last === null) return missingRows;
  const outer = keys.map(({ column, descending }) => order({ column, descending, value: identifier(column.name) }));
  return sql`(${rows(present, inIndexOrder)}) UNION ALL (${missingRows}) ORDER BY ${join(outer)}`;
}

const direction = (descending: boolean): Sql => raw(descending ? 'DESC' : 'ASC');

/** Missing values come last in either direction; ascending, that is PostgreSQL's own order. */
const order = ({ column, descending, value }: Pick<Key, 'column' | 'descending' | 'value'>): Sql =>
  sql`${value} ${direction(descending)}${raw(descending && column.nullable ? ' NULLS LAST' : '')}`;

const lastValue = ({ column, last }: Key): Sql =>
  sql`${last}::${raw(column.type === 'double' ? 'float8' : column.type)}`;

/** What comes after the last resource of the page before. */
function keysAfter(keys: readonly Key[]): Sql[] {
  const descending = keys[0]?.descending;
  if (keys.every((key) => key.descending === descending && !key.column.nullable)) return [rowAfter(keys)];
  // Equal in the first keys and after in the next one, for each of them.
  const alternatives = keys.flatMap((key, at) => {
    const next = keyAfter(key);
    return next ? [and([...keys.slice(0, at).map(keyEqual), next])] : [];
  });
  const [first] = keys;
  // Says no more than the rest, but in a form that lets an index start at the right place.
  const start =
    first && !first.column.nullable
      ? [sql`${first.value} ${raw(first.descending ? '<=' : '>=')} ${lastValue(first)}`]
      : [];
  return [...start, or(alternatives)];
}

/** A comparison of whole rows is the one form that PostgreSQL turns into the start of an index range. */
function rowAfter(keys: readonly Key[]): Sql {
  const operator = raw(keys[0]?.descending ? '<' : '>');
  return sql`(${join(keys.map(({ value }) => value))}) ${operator} (${join(keys.map(lastValue))})`;
}

const keyEqual = (key: Key): Sql =>
  key.last === null ? sql`${key.value} IS NULL` : sql`${key.value} = ${lastValue(key)}`;

/** Null when nothing comes after: missing values are the last. */
function keyAfter(key: Key): Sql | null {
  if (key.last === null) return null;
  const after = sql`${key.value} ${raw(key.descending ? '<' : '>')} ${lastValue(key)}`;
  return key.column.nullable ? sql`(${after} OR ${key.value} IS NULL)` : after;
}
