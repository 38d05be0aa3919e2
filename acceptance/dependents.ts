/** What hangs on a resource: the one walk that a delete, an expunge and the plan of a delete ask. */
import type { Queryable, Transaction } from '../database/database.ts';
import { ask, identifier, join, raw, render, type Sql, sql } from '../database/sql.ts';
import { cascadeMax } from '../model/cascade.ts';
import { childrenOf, columnsOf, type Edge } from '../model/columns.ts';
import type { Kind, OnDelete } from '../model/kind.ts';
import { kindOf } from '../model/kinds.ts';
import { Problem } from '../runtime/problem.ts';
import type { Caller } from './caller.ts';
import type { Row } from './change.ts';
import { visibleTo } from './visible.ts';

export interface Dependent {
  kind: string;
  id: string;
  name: string;
  onDelete: OnDelete;
  visible: boolean;
  deleteProtection: boolean;
  managed: boolean;
}

/** Of what goes: how far below the target. */
export interface Going extends Dependent {
  level: number;
}

const has = (kind: Kind, column: string): boolean => columnsOf(kind).some(({ name }) => name === column);

function dependentsBy(caller: Caller, parent: Kind, edge: Edge, ids: string[], limit: number, part: number): Sql {
  const { kind, field, many, onDelete, ownWhen } = edge;
  const column = sql`c.${identifier(field)}`;
  const unless = ownWhen?.unless
    ? sql` AND NOT (SELECT p.${identifier(ownWhen.unless)} FROM ${identifier(parent.name)} p WHERE p.id = ${column})`
    : raw('');
  const meaning = ownWhen
    ? sql`CASE WHEN c.${identifier(ownWhen.field)} = ${ownWhen.value}${unless} THEN 'own' ELSE ${raw(`'${onDelete}'`)} END`
    : raw(`'${onDelete}'`);
  return sql`(SELECT ${raw(String(part))} AS part, ${raw(`'${kind.name}'`)} AS kind, c.id, ${has(kind, 'name') ? raw('c.name') : raw(`''`)} AS name, ${meaning} AS "onDelete",
      ${visibleTo(caller, 'get')(kind, raw('c')) ?? raw('TRUE')} AS visible,
      ${has(kind, 'deleteProtection') ? raw('c."deleteProtection"') : raw('FALSE')} AS "deleteProtection",
      ${has(kind, 'managedBy') ? raw('c."managedBy" IS NOT NULL') : raw('FALSE')} AS managed
    FROM ${identifier(kind.name)} c
    WHERE ${many ? sql`${column} && ${ids}::uuid[]` : sql`${column} = ANY(${ids}::uuid[])`} AND c."deletedAt" IS NULL AND c.id <> ALL(${ids}::uuid[])
    ORDER BY c."createdAt", c.id LIMIT ${limit}::int)`;
}

/** So many of one sort on one level are told; who has more will not read them one by one. */
const toldMax = 500;
const levelsMax = 10;

interface Extent {
  /** Of what blocks, or would go by a cascade, so many of each sort are looked for. */
  limit: number;
  /** Whether what a cascade would take is followed further, and what is only let go of is told: a guard needs neither. */
  whole: boolean;
}

/** Whether what refers by this edge may go along: then all of it counts. */
const mayBeOwn = ({ onDelete, ownWhen }: Edge): boolean => onDelete === 'own' || ownWhen !== undefined;

/** What refers to these resources, the oldest of each sort first; in one statement. */
async function dependentsOf(
  client: Queryable,
  caller: Caller,
  parents: Dependent[],
  { limit, whole }: Extent,
): Promise<{ found: Dependent[]; complete: boolean }> {
  const parts = [...new Set(parents.map(({ kind }) => kind))].flatMap((name) => {
    const kind = kindOf(name);
    const ids = parents.flatMap((parent) => (parent.kind === name ? [parent.id] : []));
    return childrenOf(kind)
      .filter((edge) => edge.onDelete !== 'ignore' && (whole || edge.onDelete !== 'detach' || mayBeOwn(edge)))
      .map((edge) => ({ ids, edge, kind, limit: mayBeOwn(edge) ? Math.max(toldMax, limit) : limit }));
  });
  if (parts.length === 0) return { found: [], complete: true };
  const asked = render(
    join(
      parts.map(({ ids, edge, kind, limit: most }, part) => dependentsBy(caller, kind, edge, ids, most, part)),
      ' UNION ALL ',
    ),
    { named: false },
  );
  const rows = await ask<Dependent & { part: number }>(client, asked);
  const counts = new Map<number, number>();
  const found = rows.map(({ part, ...dependent }): Dependent => {
    counts.set(part, (counts.get(part) ?? 0) + 1);
    return dependent;
  });
  return { found, complete: parts.every((part, index) => (counts.get(index) ?? 0) < part.limit) };
}

/** All that one operation may take along, and one more. */
export const everything: Extent = { limit: cascadeMax + 1, whole: true };

export interface Walk {
  /** What would go, the leaves first and the target last. */
  going: Going[];
  /** What would only be let go of. */
  detached: Dependent[];
  /** What is in the way. */
  blocking: Dependent[];
  /** Whether that is all there is. */
  complete: boolean;
}

/** Walks down from a resource through all that would go along. What the caller may not see counts, and is not named. */
export async function walkDown(
  client: Queryable,
  caller: Caller,
  kind: Kind,
  row: Row,
  extent: Extent = { limit: toldMax, whole: true },
): Promise<Walk> {
  const target: Dependent = {
    kind: kind.name,
    id: row.id,
    name: String(row.name ?? ''),
    onDelete: 'own',
    visible: true,
    deleteProtection: row.deleteProtection === true,
    managed: row.managedBy != null,
  };
  /** Found again further down, it goes earlier: a child of two goes before both. */
  const going = new Map<string, Going>();
  const detached = new Map<string, Dependent>();
  const blocking = new Map<string, Dependent>();
  let complete = true;
  let level = [target];
  for (let depth = 0; level.length > 0; depth++) {
    for (const one of level) {
      going.delete(one.id);
      going.set(one.id, { ...one, level: depth });
    }
    const { found, complete: all } = await dependentsOf(client, caller, level, extent);
    complete &&= all;
    const below: Dependent[] = [];
    for (const one of found) {
      if (one.onDelete === 'detach') detached.set(one.id, one);
      else if (one.onDelete === 'own' || (one.onDelete === 'cascade' && extent.whole)) below.push(one);
      else blocking.set(one.id, one);
    }
    if (depth === levelsMax && below.length > 0) complete = false;
    level = depth === levelsMax ? [] : below;
  }
  for (const id of going.keys()) {
    detached.delete(id);
    blocking.delete(id);
  }
  return {
    going: [...going.values()].sort((a, b) => b.level - a.level),
    detached: [...detached.values()],
    blocking: [...blocking.values()],
    complete,
  };
}

/** So many of what is in the way are named in a refusal. */
const namedMax = 10;

/** What a refusal calls one of them. */
export const named = ({ kind, id, name, visible }: Dependent): string =>
  visible ? `${kind} ${name || id}` : 'something that you may not see';

/** Those of them that the caller may know of. */
export const others = (them: readonly Dependent[]): { kind: string; id: string; name: string }[] =>
  them
    .filter(({ visible }) => visible)
    .slice(0, namedMax)
    .map(({ kind, id, name }) => ({ kind, id, name }));

/**
 * Refuses the end of a resource, be it a delete or an expunge, while something hangs on it or on what goes along, or while any of
 * that is protected. Tells the first of those that the caller may know of. With `dependentsGo` what hangs on it is the caller's to end; with
 * `mayEnd` an operation above has asked whether it, and what goes along, may end.
 *
 * @throws Problem PROTECTED, MANAGED, HAS_DEPENDENTS
 */
export async function refuseEnd(
  tx: Transaction,
  caller: Caller,
  kind: Kind,
  row: Row,
  { dependentsGo = false, mayEnd = false }: { dependentsGo?: boolean; mayEnd?: boolean } = {},
): Promise<void> {
  const { going, blocking } = await walkDown(tx, caller, kind, row, { limit: namedMax, whole: false });
  const held = mayEnd ? [] : going.filter(({ deleteProtection }) => deleteProtection);
  // The target itself before what goes with it: that is what the caller named.
  const first = held.at(-1);
  if (first?.id === row.id)
    throw new Problem('PROTECTED', `${kind.name} ${row.id} is protected; set deleteProtection to false first`);
  if (first)
    throw new Problem(
      'PROTECTED',
      `${named(first)} goes with ${kind.name} ${row.id} and is protected; set its deleteProtection to false first`,
      { blockers: others(held) },
    );
  const managed = mayEnd ? [] : going.filter((one) => one.managed && one.id !== row.id);
  if (managed[0])
    throw new Problem(
      'MANAGED',
      `${named(managed[0])} goes with ${kind.name} ${row.id} and changes only through what manages it`,
      { blockers: others(managed) },
    );
  // Of one kind some name each other in a circle: what goes with all of them goes whichever is first.
  const standing = mayEnd ? blocking.filter((other) => other.kind !== kind.name) : blocking;
  const [one] = standing;
  if (!one || dependentsGo) return;
  const visible = standing.find((other) => other.visible) ?? one;
  throw new Problem(
    'HAS_DEPENDENTS',
    `${kind.name} ${row.id} is in use: ${named(visible)} hangs on it${standing.length > 1 ? `, and ${standing.length - 1} more` : ''}`,
    { blockers: others(standing) },
  );
}
