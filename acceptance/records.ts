/** Rows as a change makes them and changes them. */
import { isDeepStrictEqual } from 'node:util';
import { type Client, run } from '../database/database.ts';
import { seal } from '../database/secrets.ts';
import { columnsOf } from '../model/columns.ts';
import { instantAt, instantOf } from '../model/forms.ts';
import type { Kind } from '../model/kind.ts';
import type { Row } from './change.ts';

/** The row of a resource that is about to be made. */
export function newRow(
  kind: Kind,
  input: Record<string, unknown>,
  projectId: string | null,
  operationId: string | null,
  state: string | undefined,
): Row {
  const now = instantAt();
  const implied: Record<string, unknown> = {
    id: typeof input.requestedId === 'string' ? input.requestedId.toLowerCase() : crypto.randomUUID(),
    projectId,
    name: input.name,
    description: input.description ?? '',
    labels: input.labels ?? {},
    systemLabels: {},
    managedBy: null,
    state,
    fault: null,
    currentOperationId: operationId,
    createdAt: now,
    updatedAt: now,
    deletedAt: null,
    revision: 1,
  };
  const row: Record<string, unknown> = {};
  for (const column of columnsOf(kind))
    row[column.name] = column.name in implied ? implied[column.name] : (input[column.name] ?? column.default ?? null);
  return row as Row;
}

export const told = (kind: Kind, row: Row): Record<string, unknown> => {
  const columns = new Map(columnsOf(kind).map((column) => [column.name, column]));
  return Object.fromEntries(
    Object.entries(row).flatMap(([name, value]) => {
      const column = columns.get(name);
      if (column?.hidden) return [];
      // PostgreSQL's own JSON of an instant has another form than what reads tell.
      return [[name, column?.type === 'timestamptz' && typeof value === 'string' ? instantOf(value) : value]];
    }),
  );
};

/** The body as it may be kept: secrets masked. */
export function masked(kind: Kind, input: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(input).map(([name, value]) => [name, kind.fields[name]?.secret && value != null ? '***' : value]),
  );
}

/** Rows of the secrets that a create brings along. */
export function secretRows(kind: Kind, input: Record<string, unknown>, ownerId: string): Record<string, unknown>[] {
  return Object.entries(kind.fields).flatMap(([name, field]) =>
    field.secret && field.set !== 'system' && typeof input[name] === 'string'
      ? [{ ownerKind: kind.name, ownerId, field: name, ciphertext: seal(ownerId, name, String(input[name])) }]
      : [],
  );
}

/** Columns whose value differs: a change writes these and no others, because the others may be somebody else's by now. */
export const changedColumns = (kind: Kind, before: Row, after: Row): string[] =>
  columnsOf(kind)
    .map(({ name }) => name)
    .filter((name) => !own.has(name) && !isDeepStrictEqual(before[name], after[name]));

/** Columns that every write sets itself. */
const own = new Set(['id', 'createdAt', 'updatedAt', 'revision']);

/**
 * Writes the named columns of one row, if nobody has changed the row since it was read. Answers the row as it is now, or null when
 * somebody has: then the change starts over.
 */
export async function writeColumns(tx: Client, kind: Kind, row: Row, columns: readonly string[]): Promise<Row | null> {
  const list = columns.map((name) => `"${name}"`).join(', ');
  const set = columns.length > 0 ? `(${list}) = ROW(${columns.map((name) => `n."${name}"`).join(', ')}), ` : '';
  const [written] = await run<{ row: Row }>(
    tx,
    `UPDATE "${kind.name}" t SET ${set}revision = t.revision + 1, "updatedAt" = now()
     FROM json_populate_record(NULL::"${kind.name}", $3::json) n
     WHERE t.id = $1 AND t.revision = $2 AND t."deletedAt" IS NULL RETURNING row_to_json(t) AS row`,
    [row.id, row.revision, JSON.stringify(Object.fromEntries(columns.map((name) => [name, row[name]])))],
  );
  return written?.row ?? null;
}
