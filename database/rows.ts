/** Rows of resources whatever their kind: which columns there are, the model says at run time. */
import { columnsOf } from '../model/columns.ts';
import type { Kind } from '../model/kind.ts';
import { allKinds } from '../model/kinds.ts';
import { type Queryable, statementName } from './database.ts';
import { prepared } from './statement.ts';

/** A row as JSON: instants are texts. */
export interface KindRow {
  id: string;
  revision: number;
  [column: string]: unknown;
}

/** Rows of one kind: by their ids, or by a field that leads to other ids. */
export interface Wanted {
  kind: Kind;
  by: string;
  ids: string[];
}

const oneKind = ({ kind, by }: Omit<Wanted, 'ids'>, place: number): string =>
  `SELECT '${kind.name}' AS kind, row_to_json(t) AS row FROM "${kind.name}" t WHERE t."${by}" = ANY($${place}::uuid[]) AND t."deletedAt" IS NULL`;

/** The living ones of all that are wanted, in one statement. Its text depends on which kinds there are, and by what, alone. */
export async function livingRows(on: Queryable, wanted: readonly Wanted[]): Promise<{ kind: string; row: KindRow }[]> {
  const text = wanted.map((one, index) => oneKind(one, index + 1)).join(' UNION ALL ');
  const values = wanted.map(({ ids }) => ids);
  return (await on.query({ name: statementName(text), text, values })).rows;
}

const writing = ({ name }: Kind, columns: readonly string[]): string => {
  const list = columns.map((column) => `"${column}"`).join(', ');
  const set = columns.length > 0 ? `(${list}) = ROW(${columns.map((column) => `n."${column}"`).join(', ')}), ` : '';
  return `UPDATE "${name}" t SET ${set}revision = t.revision + 1, "updatedAt" = now()
    FROM json_populate_record(NULL::"${name}", $3::json) n
    WHERE t.id = $1 AND t.revision = $2 AND t."deletedAt" IS NULL RETURNING row_to_json(t) AS row`;
};

/** Writes the named columns of one row that is still at this revision. Answers the row as it is now, or null where it is not. */
export async function writeRow(
  on: Queryable,
  kind: Kind,
  row: KindRow,
  columns: readonly string[],
): Promise<KindRow | null> {
  const text = writing(kind, columns);
  const written = JSON.stringify(Object.fromEntries(columns.map((name) => [name, row[name]])));
  const { rows } = await on.query({ name: statementName(text), text, values: [row.id, row.revision, written] });
  return rows[0]?.row ?? null;
}

prepared(() =>
  allKinds.flatMap((kind) => {
    const columns = columnsOf(kind);
    const references = columns.filter(({ ref, type }) => ref && type === 'uuid');
    return [
      ...['id', ...references.map(({ name }) => name)].map((by) => oneKind({ kind, by }, 1)),
      writing(kind, []),
      writing(
        kind,
        columns.flatMap(({ name }) => (['id', 'createdAt', 'updatedAt', 'revision'].includes(name) ? [] : [name])),
      ),
    ];
  }),
);
