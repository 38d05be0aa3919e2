/** How one kind is reached from another in a path of a filter: `host.cluster.zoneId`, `volumes:(sizeGib > 100)`. */

import { identifier, type Sql, sql } from '../../database/sql.ts';
import { columnsOf } from '../../model/columns.ts';
import type { Kind } from '../../model/kind.ts';
import { allKinds, kindOf } from '../../model/kinds.ts';

export interface Relation {
  name: string;
  /** What is at the other end. */
  kind: Kind;
  /** There may be several at the other end. */
  many: boolean;
  /** Column that ties the two, in the kind that holds it. */
  field: string;
  /** The condition that ties a row of this kind (alias `from`) to one of the other (alias `to`). */
  tie: (from: Sql, to: Sql) => Sql;
}

const memo = new Map<string, ReadonlyMap<string, Relation>>();

/**
 * The relations of a kind by name: `host` for its `hostId`, `keyPairs` for its `keyPairIds`, and the plural of every kind
 * that refers to it (`volumes` of an instance). A field of the same name comes first, so such a relation has none.
 */
export function relationsOf(kind: Kind): ReadonlyMap<string, Relation> {
  const known = memo.get(kind.name);
  if (known) return known;
  const fields = new Set(columnsOf(kind).map((column) => column.name));
  const relations = new Map<string, Relation>();
  for (const relation of [...referred(kind), ...referring(kind)]) {
    if (!fields.has(relation.name) && !relations.has(relation.name)) relations.set(relation.name, relation);
  }
  memo.set(kind.name, relations);
  return relations;
}

/** What the kind's own columns refer to. */
function referred(kind: Kind): Relation[] {
  return columnsOf(kind).flatMap((column): Relation[] => {
    if (column.ref === undefined || column.hidden) return [];
    const field = identifier(column.name);
    const other = { kind: kindOf(column.ref), field: column.name };
    if (column.type === 'uuid' && column.name.endsWith('Id')) {
      const name = column.name.slice(0, -'Id'.length);
      return [{ ...other, name, many: false, tie: (from, to) => sql`${to}."id" = ${from}.${field}` }];
    }
    if (column.type === 'uuid[]' && column.name.endsWith('Ids')) {
      const name = `${column.name.slice(0, -'Ids'.length)}s`;
      return [{ ...other, name, many: true, tie: (from, to) => sql`${to}."id" = ANY(${from}.${field})` }];
    }
    return [];
  });
}

/** What refers to the kind. Where one child refers to it twice, its plural means the field named after this kind. */
function referring(kind: Kind): Relation[] {
  return allKinds.flatMap((child): Relation[] => {
    const references = columnsOf(child).filter((column) => column.ref === kind.name && !column.hidden);
    const natural = references.find((column) => column.name === `${kind.name}Id` || column.name === `${kind.name}Ids`);
    const column = natural ?? references[0];
    if (column === undefined) return [];
    const field = identifier(column.name);
    const tie =
      column.type === 'uuid[]'
        ? (from: Sql, to: Sql) => sql`${to}.${field} @> ARRAY[${from}."id"]`
        : (from: Sql, to: Sql) => sql`${to}.${field} = ${from}."id"`;
    return [{ name: camel(child.plural), kind: child, many: true, field: column.name, tie }];
  });
}

/** `network-interfaces` → `networkInterfaces`. */
const camel = (path: string): string => path.replace(/-(\w)/g, (_, letter: string) => letter.toUpperCase());
