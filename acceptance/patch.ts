/** What a PATCH makes of a resource's columns (RFC 7396). */
import { type Column, columnsOf } from '../model/columns.ts';
import { type Kind, maxLabels } from '../model/kind.ts';
import { check } from './validate.ts';
import { invalid } from './violation.ts';

export function mergePatch(current: unknown, patch: unknown): unknown {
  if (patch === null || typeof patch !== 'object' || Array.isArray(patch)) return patch;
  const base: Record<string, unknown> =
    current !== null && typeof current === 'object' && !Array.isArray(current) ? { ...current } : {};
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete base[key];
    else base[key] = mergePatch(base[key], value);
  }
  return base;
}

/** The new values of the columns that a checked PATCH names: null clears or returns to the default, objects are merged, and what comes of it is checked. */
export function patched(
  kind: Kind,
  current: Readonly<Record<string, unknown>>,
  input: Readonly<Record<string, unknown>>,
): Record<string, unknown> {
  const columns = new Map(columnsOf(kind).map((column) => [column.name, column]));
  return Object.fromEntries(
    Object.entries(input).map(([name, value]) => [name, newValue(kind, columns.get(name), name, value, current[name])]),
  );
}

function newValue(kind: Kind, column: Column | undefined, name: string, value: unknown, current: unknown): unknown {
  if (!column) return value;
  if (value === null) return column.default ?? null;
  if (name === 'labels') {
    const labels = mergePatch(current, value) as Record<string, string>;
    const count = Object.keys(labels).length;
    if (count > maxLabels)
      throw invalid('labels', `would be ${count} with those that are there; at most ${maxLabels} fit`);
    return labels;
  }
  if (column.schema.type !== 'object' || typeof value !== 'object') return value;
  const merged = { ...(column.default as object | undefined), ...(mergePatch(current, value) as object) };
  const whole = { type: 'object', properties: { [name]: column.schema } };
  return check(`${kind.name}.${name} merged`, () => whole, { [name]: merged })[name];
}
