/**
 * What a filter means for a kind: names are looked up, values checked against their types, and SQL made with all values
 * as parameters.
 *
 * A comparison is true or not true, never unknown: `!=` is true where the field has no value, `NOT` is true wherever its
 * operand is not. A path through a relation is true when some living resource that the caller may see fulfils it; what
 * the caller may not see is as if it did not exist, so that no filter can ask about it.
 */

import { and, identifier, or, sql } from '../../database/sql.ts';
import { type Column, columnsOf } from '../../model/columns.ts';
import type { Kind } from '../../model/kind.ts';
import { type Budget, type Condition, type Context, compile, firstOf, hop, unknownName } from './condition.ts';
import { type Comparator, type Expression, FilterError, type Segment, type Value } from './filter.ts';
import { choicesOf, ofJson } from './json.ts';
import { type Relation, relationsOf } from './relations.ts';
import {
  compareAddress,
  compareEqual,
  compareOrdered,
  compareText,
  compareUuids,
  contains,
  isAnything,
  parameter,
  type Scalar,
} from './scalars.ts';
import { booleanOf, instantOf, integerOf, isUuid, numberOf } from './values.ts';

export type { Condition, Scope } from './condition.ts';
export { isUuid } from './values.ts';

/** Checks a filter against a kind and returns the condition that it is; `hops` counts the relations that it follows. Throws FilterError. */
export function compileFilter(kind: Kind, expression: Expression, hops = { count: 0 }): Condition {
  return compile(expression, ofKind(kind), { hops, nested: 0 });
}

function ofKind(kind: Kind): Context {
  const columns = columnsOf(kind).filter((column) => !column.hidden);
  const relations = relationsOf(kind);

  /** The column or relation that a path begins with. */
  const lookUp = (path: Segment[]): { column: Column } | { relation: Relation } => {
    const first = firstOf(path);
    const column = columns.find(({ name }) => name === first.name);
    if (column) return { column };
    const relation = relations.get(first.name);
    if (relation) return { relation };
    throw unknownName(first, `field of ${kind.name}`, [...columns.map(({ name }) => name), ...relations.keys()]);
  };

  return {
    compare(path, comparator, value, budget) {
      const found = lookUp(path);
      const rest = path.slice(1);
      if ('column' in found) return compareColumn(found.column, path, comparator, value, budget);
      const { relation } = found;
      const first = firstOf(path);
      const inner = hop(budget, first.position);
      if (rest.length === 0) {
        if (comparator === ':' && isAnything(value)) return related(relation, () => sql`TRUE`);
        throw new FilterError(misuse(relation), first.position);
      }
      if (relation.many && comparator !== ':') {
        const asked = `${relation.name}:(${rest.map(({ name }) => name).join('.')} ${comparator} …)`;
        throw new FilterError(`${relation.name} are several: write \`${asked}\``, first.position);
      }
      return related(relation, ofKind(relation.kind).compare(rest, comparator, value, inner));
    },

    some(path, condition, budget) {
      const found = lookUp(path);
      if ('column' in found) {
        const { column } = found;
        if (column.type !== 'jsonb') throw new FilterError(`${column.name} has no parts`, firstOf(path).position);
        return ofJson(column.schema, columnValue(column), column.name, firstOf(path).position).some(
          path.slice(1),
          condition,
          budget,
        );
      }
      const inner = hop(budget, firstOf(path).position);
      const target = ofKind(found.relation.kind);
      const rest = path.slice(1);
      const met = rest.length > 0 ? target.some(rest, condition, inner) : compile(condition, target, inner);
      return related(found.relation, met);
    },

    search(value) {
      const searched = columns.filter(({ name }) => name === 'name' || name === 'description');
      if (searched.length === 0) {
        throw new FilterError(`a ${kind.name} has no name to search: name a field`, value.position);
      }
      return ({ alias }) => or(searched.map((column) => contains(sql`${alias}.${identifier(column.name)}`, value)));
    },
  };
}

/** True when some living, visible resource at the other end fulfils the condition. */
function related(relation: Relation, condition: Condition): Condition {
  const table = identifier(relation.kind.name);
  return ({ alias, depth, visible }) => {
    const inner = identifier(`t${depth + 1}`);
    const seen = visible(relation.kind, inner);
    const all = [
      relation.tie(alias, inner),
      sql`${inner}."deletedAt" IS NULL`,
      ...(seen ? [sql`(${seen})`] : []),
      condition({ alias: inner, depth: depth + 1, visible }),
    ];
    return sql`EXISTS (SELECT 1 FROM ${table} AS ${inner} WHERE ${and(all)})`;
  };
}

const misuse = (relation: Relation): string =>
  relation.many
    ? `${relation.name} are resources: ask \`${relation.name}:(…)\`, or \`${relation.name}:*\` for any at all`
    : `${relation.name} is a resource: name one of its fields, such as \`${relation.name}.id\``;

const columnValue =
  (column: Column): Condition =>
  ({ alias, visible }) =>
    visible.veil?.compared(column, alias) ?? sql`${alias}.${identifier(column.name)}`;

function compareColumn(
  column: Column,
  path: Segment[],
  comparator: Comparator,
  value: Value,
  budget: Budget,
): Condition {
  const rest = path.slice(1);
  const [next] = rest;
  const of = columnValue(column);
  if (column.type === 'jsonb') {
    return ofJson(column.schema, of, column.name, firstOf(path).position).compare(rest, comparator, value, budget);
  }
  if (next) throw new FilterError(`${column.name} has no field \`${next.name}\``, next.position);
  if (column.type === 'uuid[]') return compareUuids(column.name, of, comparator, value);
  const target: Scalar = { name: column.name, nullable: column.nullable };
  switch (column.type) {
    case 'text':
      return compareText({ ...target, choices: choicesOf(column.schema) }, of, comparator, value);
    case 'inet':
      return compareAddress(
        { ...target, form: String(column.schema.format) },
        of,
        // As it is told: the text that PostgreSQL's own cast gives has a length behind every address.
        (scope) => sql`(to_jsonb(${of(scope)}) #>> '{}')`,
        comparator,
        value,
      );
    case 'uuid':
      return compareEqual({ ...target, wanted: 'a UUID' }, of, comparator, value, (text) =>
        isUuid(text) ? sql`${text.toLowerCase()}::uuid` : null,
      );
    case 'boolean':
      return compareEqual({ ...target, wanted: 'true or false' }, of, comparator, value, (text) =>
        parameter(booleanOf(text), (known) => sql`${known}::boolean`),
      );
    case 'timestamptz':
      return compareOrdered(
        { ...target, wanted: 'an instant such as 2026-01-31T12:00:00Z' },
        of,
        comparator,
        value,
        (text) => parameter(instantOf(text), (known) => sql`${known}::timestamptz`),
      );
    case 'double':
      return compareOrdered({ ...target, wanted: 'a number' }, of, comparator, value, (text) =>
        parameter(numberOf(text), (known) => sql`${known}::float8`),
      );
    case 'integer':
    case 'bigint':
      // Always compared as bigint, so that a number beyond the column's type is merely never equal.
      return compareOrdered({ ...target, wanted: 'an integer' }, of, comparator, value, (text) =>
        parameter(integerOf(text), (known) => sql`${known}::bigint`),
      );
  }
}
