import { type Client, run } from '../database/database.ts';
import type { Kind } from '../model/kind.ts';
import { Problem } from '../runtime/problem.ts';
import type { Row } from './change.ts';

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
