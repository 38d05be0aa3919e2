import { type Client, run } from '../database/database.ts';
import { childrenOf } from '../model/columns.ts';
import type { Kind } from '../model/kind.ts';
import { Problem } from '../runtime/problem.ts';
import { type Caller, may } from './caller.ts';
import type { Row } from './change.ts';

/** Refuses a delete while something hangs on the resource; tells the first of those that the caller may know of. */
export async function refuseDependents(tx: Client, caller: Caller, kind: Kind, id: string): Promise<void> {
  const edges = childrenOf(kind).filter(({ onDelete }) => onDelete === 'block' || onDelete === 'cascade');
  if (edges.length === 0) return;
  const text = edges
    .map(
      ({ kind: child, field, many }) =>
        `(SELECT '${child.name}' AS kind, id, ${child.readOnly ? "''" : 'name'} AS name, ${child.scope === 'project' ? '"projectId"' : 'NULL::uuid'} AS "projectId" FROM "${child.name}"
          WHERE ${many ? `$1 = ANY("${field}")` : `"${field}" = $1`} AND "deletedAt" IS NULL AND id <> $1 LIMIT 10)`,
    )
    .join(' UNION ALL ');
  const found = await run<{ kind: string; id: string; name: string; projectId: string | null }>(tx, text, [id]);
  if (found.length === 0) return;
  const blockers = found
    .filter((row) => may(caller, `${row.kind}.get`, { projectId: row.projectId, resourceId: row.id }))
    .map(({ kind: child, id: childId, name }) => ({ kind: child, id: childId, name }));
  const [first] = blockers;
  const who = first ? `${first.kind} ${first.name || first.id}` : 'something that you may not see';
  throw new Problem(
    'HAS_DEPENDENTS',
    `${kind.name} ${id} is in use: ${who} hangs on it${found.length > 1 ? `, and ${found.length - 1} more` : ''}`,
    { blockers },
  );
}

const scopeColumn = { account: 'accountId', project: 'projectId', domain: 'domainId' } as const;

/** Refuses a name that a living sibling has, for kinds that say so. Two such creates at once wait for each other. */
export async function checkUniqueName(tx: Client, kind: Kind, row: Row): Promise<void> {
  if (!kind.uniqueName) return;
  const column =
    kind.name === 'domain' ? 'parentId' : kind.uniqueName === 'platform' ? null : scopeColumn[kind.uniqueName];
  await run(tx, 'SELECT pg_advisory_xact_lock(hashtextextended($1, 2))', [
    `${kind.name}/${column ? String(row[column]) : ''}/${String(row.name)}`,
  ]);
  const taken = await run(
    tx,
    `SELECT 1 FROM "${kind.name}" WHERE name = $1 AND "deletedAt" IS NULL ${column ? `AND "${column}" = $2` : ''} LIMIT 1`,
    column ? [row.name, row[column]] : [row.name],
  );
  if (taken.length > 0)
    throw new Problem('NAME_IN_USE', `there is a ${kind.name} named ${String(row.name)} already`, {
      violations: [{ field: 'name', message: 'is in use' }],
    });
}
