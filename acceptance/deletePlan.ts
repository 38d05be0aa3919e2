/** What hangs on a resource: why a delete is refused, and what one would take along. */
import { type Client, type Database, run } from '../database/database.ts';
import { identifier, join, raw, render, type Sql, sql } from '../database/sql.ts';
import { childrenOf, columnsOf, type Edge } from '../model/columns.ts';
import type { Kind, OnDelete } from '../model/kind.ts';
import { kindOf } from '../model/kinds.ts';
import { Problem } from '../runtime/problem.ts';
import type { Caller } from './caller.ts';
import type { Row } from './change.ts';
import { visibleTo } from './visible.ts';

interface Dependent {
  kind: string;
  id: string;
  name: string;
  onDelete: OnDelete;
  visible: boolean;
  deleteProtection: boolean;
  managed: boolean;
}

const has = (kind: Kind, column: string): boolean => columnsOf(kind).some(({ name }) => name === column);

function dependentsBy(caller: Caller, parent: Kind, edge: Edge, ids: string[], limit: number): Sql {
  const { kind, field, many, onDelete, ownWhen } = edge;
  const column = sql`c.${identifier(field)}`;
  const unless = ownWhen?.unless
    ? sql` AND NOT (SELECT p.${identifier(ownWhen.unless)} FROM ${identifier(parent.name)} p WHERE p.id = ${column})`
    : raw('');
  const meaning = ownWhen
    ? sql`CASE WHEN c.${identifier(ownWhen.field)} = ${ownWhen.value}${unless} THEN 'own' ELSE ${raw(`'${onDelete}'`)} END`
    : raw(`'${onDelete}'`);
  return sql`(SELECT ${raw(`'${kind.name}'`)} AS kind, c.id, ${has(kind, 'name') ? raw('c.name') : raw(`''`)} AS name, ${meaning} AS "onDelete",
      ${visibleTo(caller, 'get')(kind, raw('c')) ?? raw('TRUE')} AS visible,
      ${has(kind, 'deleteProtection') ? raw('c."deleteProtection"') : raw('FALSE')} AS "deleteProtection",
      ${has(kind, 'managedBy') ? raw('c."managedBy" IS NOT NULL') : raw('FALSE')} AS managed
    FROM ${identifier(kind.name)} c
    WHERE ${many ? sql`${column} && ${ids}::uuid[]` : sql`${column} = ANY(${ids}::uuid[])`} AND c."deletedAt" IS NULL AND c.id <> ALL(${ids}::uuid[])
    ORDER BY c."createdAt", c.id LIMIT ${limit}::int)`;
}

/** What refers to these resources of one kind, the oldest of each sort first. */
async function dependentsOf(
  client: Client | Database['pool'],
  caller: Caller,
  kind: Kind,
  ids: string[],
  wanted: readonly OnDelete[],
  limit: number,
): Promise<Dependent[]> {
  const edges = childrenOf(kind).filter(({ onDelete }) => wanted.includes(onDelete));
  if (edges.length === 0 || ids.length === 0) return [];
  const parts = edges.map((edge) => dependentsBy(caller, kind, edge, ids, limit));
  const { text, values } = render(join(parts, ' UNION ALL '), { named: false });
  return run<Dependent>(client, text, values);
}

/** Refuses a delete while something hangs on the resource; tells the first of those that the caller may know of. */
export async function refuseDependents(tx: Client, caller: Caller, kind: Kind, id: string): Promise<void> {
  const dependents = await dependentsOf(tx, caller, kind, [id], ['block', 'cascade'], 10);
  const found = dependents.filter(({ onDelete }) => onDelete !== 'own');
  if (found.length === 0) return;
  const blockers = found
    .filter(({ visible }) => visible)
    .map(({ kind: child, id: childId, name }) => ({ kind: child, id: childId, name }));
  const [first] = blockers;
  const who = first ? `${first.kind} ${first.name || first.id}` : 'something that you may not see';
  throw new Problem(
    'HAS_DEPENDENTS',
    `${kind.name} ${id} is in use: ${who} hangs on it${found.length > 1 ? `, and ${found.length - 1} more` : ''}`,
    { blockers },
  );
}

/** So many of one sort on one level are told; who has more will not read them one by one. */
const toldMax = 500;
const levelsMax = 10;

export interface DeletePlan {
  deletable: boolean;
  takes: { kind: string; id: string; name: string; by: 'own' | 'cascade' | 'detach' | 'target' }[];
  blockers: { kind: string; id: string; name: string; reason: 'dependent' | 'deleteProtection' | 'managed' }[];
  complete: boolean;
}

/** Walks down from the resource through all that would go along. What the caller may not see counts, and is not named. */
export async function deletePlanOf(database: Database, caller: Caller, kind: Kind, row: Row): Promise<DeletePlan> {
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
  const going = new Map<string, Dependent & { level: number }>();
  const detached = new Map<string, Dependent>();
  const blocking = new Map<string, Dependent>();
  let complete = true;
  let level = [target];
  for (let depth = 0; level.length > 0; depth++) {
    for (const one of level) {
      going.delete(one.id);
      going.set(one.id, { ...one, level: depth });
    }
    const below: Dependent[] = [];
    for (const name of new Set(level.map((one) => one.kind))) {
      const ids = level.filter((one) => one.kind === name).map(({ id }) => id);
      const found = await dependentsOf(
        database.pool,
        caller,
        kindOf(name),
        ids,
        ['block', 'cascade', 'own', 'detach'],
        toldMax,
      );
      if (found.length >= toldMax) complete = false;
      for (const one of found) {
        if (one.onDelete === 'detach') detached.set(one.id, one);
        else if (one.onDelete === 'block') blocking.set(one.id, one);
        else below.push(one);
      }
    }
    if (depth === levelsMax && below.length > 0) complete = false;
    level = depth === levelsMax ? [] : below;
  }
  for (const id of going.keys()) {
    detached.delete(id);
    blocking.delete(id);
  }
  const goingUp = [...going.values()].sort((a, b) => b.level - a.level);
  const held = goingUp.filter(({ deleteProtection, managed }) => deleteProtection || managed);
  const all = [...goingUp, ...detached.values(), ...blocking.values()];
  const naming = ({ kind: of, id, name }: Dependent) => ({ kind: of, id, name });
  const seen = <D extends Dependent>(them: Iterable<D>): D[] => [...them].filter(({ visible }) => visible);
  return {
    deletable: blocking.size === 0 && held.length === 0 && !goingUp.some(({ onDelete }) => onDelete === 'cascade'),
    takes: [
      ...seen(detached.values()).map((one) => ({ ...naming(one), by: 'detach' as const })),
      ...seen(goingUp).map((one) => ({
        ...naming(one),
        by: one.id === row.id ? ('target' as const) : (one.onDelete as 'own' | 'cascade'),
      })),
    ],
    blockers: [
      ...seen(held).map((one) => ({
        ...naming(one),
        reason: one.deleteProtection ? ('deleteProtection' as const) : ('managed' as const),
      })),
      ...seen(blocking.values()).map((one) => ({ ...naming(one), reason: 'dependent' as const })),
    ],
    complete: complete && all.every(({ visible }) => visible),
  };
}
