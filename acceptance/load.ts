import type { Transaction } from '../database/database.ts';
import { livingRows } from '../database/rows.ts';
import { kindOf } from '../model/kinds.ts';
import type { Related, Row } from './change.ts';

/** Living rows of what is wanted, in one statement: by id, or by a field that leads to an id. Keys are `<kind>/<id>`. */
export async function loadAll(tx: Transaction, wanted: readonly Related[]): Promise<Map<string, Row>> {
  const idsBy = new Map<string, { kind: string; by: string; ids: string[] }>();
  for (const { kind, id, by = 'id' } of wanted) {
    const key = `${kind}.${by}`;
    const group = idsBy.get(key) ?? { kind, by, ids: [] };
    idsBy.set(key, { ...group, ids: [...group.ids, id] });
  }
  if (idsBy.size === 0) return new Map();
  const groups = [...idsBy].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, group]) => group);
  const rows = await livingRows(
    tx,
    groups.map(({ kind, by, ids }) => ({ kind: kindOf(kind), by, ids })),
  );
  return new Map(rows.map(({ kind, row }) => [`${kind}/${row.id}`, row as Row]));
}
