import { type Client, run } from '../database/database.ts';
import { kindOf } from '../model/kinds.ts';
import type { Related, Row } from './change.ts';

/** Living rows of what is wanted, in one statement: by id, or by a field that leads to an id. Keys are `<kind>/<id>`. */
export async function loadAll(tx: Client, wanted: readonly Related[]): Promise<Map<string, Row>> {
  const idsBy = new Map<string, { kind: string; by: string; ids: string[] }>();
  for (const { kind, id, by = 'id' } of wanted) {
    const key = `${kind}.${by}`;
    const group = idsBy.get(key) ?? { kind, by, ids: [] };
    idsBy.set(key, { ...group, ids: [...group.ids, id] });
  }
  if (idsBy.size === 0) return new Map();
  const groups = [...idsBy].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, group]) => group);
  const text = groups
    .map(({ kind, by }, index) => {
      const { name } = kindOf(kind);
      return `SELECT '${name}' AS kind, row_to_json(t) AS row FROM "${name}" t WHERE t."${by}" = ANY($${index + 1}::uuid[]) AND t."deletedAt" IS NULL`;
    })
    .join(' UNION ALL ');
  const rows = await run<{ kind: string; row: Row }>(
    tx,
    text,
    groups.map(({ ids }) => ids),
  );
  return new Map(rows.map(({ kind, row }) => [`${kind}/${row.id}`, row]));
}
