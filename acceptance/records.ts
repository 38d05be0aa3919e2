/** Rows as a change makes them and changes them. */
import { isDeepStrictEqual } from 'node:util';
import type { Transaction } from '../database/database.ts';
import { writeRow } from '../database/rows.ts';
import { forgetSecrets, seal, writeSecret } from '../database/secrets.ts';
import { columnsOf } from '../model/columns.ts';
import { instantAt, instantOf } from '../model/forms.ts';
import type { Kind } from '../model/kind.ts';
import { createSchema, type JsonSchema, patchSchema } from '../model/schemas.ts';
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

export const answerOf = (kind: Kind, row: Row): Record<string, unknown> => {
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

/** A body that was refused, as it may be kept: nobody has checked it, and what was meant as a secret may stand under another name. */
export const refusedBody = (kind: Kind, verb: string, body: unknown): unknown =>
  isObject(body) ? keptOf(schemaOf(kind, verb), masked(kind, body)) : null;

const hidden = '***';

const isObject = (value: unknown): value is Record<string, unknown> =>
  value !== null && typeof value === 'object' && !Array.isArray(value);

/** Whether a value is of the type that a schema asks for; any is where it asks for none. */
function isOfType(schema: JsonSchema, value: unknown): boolean {
  switch (schema.type) {
    case undefined:
      return true;
    case 'array':
      return Array.isArray(value);
    case 'object':
      return isObject(value);
    case 'integer':
      return typeof value === 'number';
    default:
      return typeof value === schema.type;
  }
}

const isOpen = ({ patternProperties }: JsonSchema): boolean =>
  Object.values((patternProperties ?? {}) as Record<string, JsonSchema>).some(({ type, anyOf }) => !type && !anyOf);

/** Of what the schema knows the values, of all else the names alone. */
function keptOf(schema: JsonSchema, value: unknown): unknown {
  if (value === null || value === hidden) return value;
  const branches = (schema.anyOf as JsonSchema[] | undefined) ?? [schema];
  const fitting = branches.find((branch) => isOfType(branch, value));
  if (!fitting) return hidden;
  if (Array.isArray(value)) return value.map((item) => keptOf((fitting.items as JsonSchema | undefined) ?? {}, item));
  if (!isObject(value)) return value;
  // Members of any kind, such as what another action takes: nobody knows which of them are secrets.
  if (isOpen(fitting)) return Object.fromEntries(Object.keys(value).map((name) => [name, hidden]));
  if (!fitting.properties && !fitting.additionalProperties) return value;
  const known = (fitting.properties ?? {}) as Record<string, JsonSchema>;
  const others = fitting.additionalProperties;
  return Object.fromEntries(
    Object.entries(value).map(([name, member]) => {
      const of = Object.hasOwn(known, name) ? known[name] : isObject(others) ? others : undefined;
      return [name, of ? keptOf(of, member) : hidden];
    }),
  );
}

const schemas = new Map<string, JsonSchema>();

/** What the body of a change looks like. */
function schemaOf(kind: Kind, verb: string): JsonSchema {
  const name = `${kind.name}.${verb}`;
  let schema = schemas.get(name);
  if (!schema) {
    const { input } = kind.actions[verb] ?? {};
    schema =
      verb === 'create'
        ? createSchema(kind)
        : verb === 'update'
          ? patchSchema(kind)
          : ((input as unknown as JsonSchema | undefined) ?? { type: 'object', properties: {} });
    schemas.set(name, schema);
  }
  return schema;
}

/** Rows of the secrets that a create brings along. */
export function secretRows(kind: Kind, input: Record<string, unknown>, ownerId: string): Record<string, unknown>[] {
  return Object.entries(kind.fields).flatMap(([name, field]) =>
    field.secret && field.set !== 'system' && typeof input[name] === 'string'
      ? [{ ownerKind: kind.name, ownerId, field: name, ciphertext: seal(ownerId, name, String(input[name])) }]
      : [],
  );
}

/** Those that a PATCH names: another value takes the place of the one before, and null takes it away. */
export async function patchSecrets(
  tx: Transaction,
  kind: Kind,
  input: Record<string, unknown>,
  ownerId: string,
): Promise<void> {
  const owner = { kind: kind.name, id: ownerId };
  for (const [name, value] of Object.entries(input)) {
    if (!kind.fields[name]?.secret) continue;
    if (typeof value === 'string') await writeSecret(tx, owner, name, value);
    else await forgetSecrets(tx, owner, [name]);
  }
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
export const writeColumns = (tx: Transaction, kind: Kind, row: Row, columns: readonly string[]): Promise<Row | null> =>
  writeRow(tx, kind, row, columns);
