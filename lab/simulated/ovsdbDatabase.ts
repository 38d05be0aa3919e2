/**
 * An in-memory OVSDB database (RFC 7047): atomic transactions, unique indexes, strong and weak references, and the garbage
 * collection of rows that are not root and that nothing refers to.
 */
import { randomUUID } from 'node:crypto';
import type { BaseType, ColumnType, DatabaseSchema, TableSchema } from './ovnSchema.ts';

export type Atom = string | number | boolean;
/** A scalar column holds an atom, a set or optional column a Set, a map column a Map. UUIDs are plain strings. */
export type Value = Atom | Set<Atom> | Map<Atom, Atom>;

/** Never changed in place: a transaction replaces it. */
export interface Row {
  uuid: string;
  version: string;
  values: Record<string, Value>;
}

interface Lookup {
  unique: boolean;
  columns: string[];
  keyOf(row: Row): string | undefined;
  rows: Map<string, Set<string>>;
}

interface Reference {
  column: string;
  table: string;
}

export interface Table {
  name: string;
  schema: TableSchema;
  rows: Map<string, Row>;
  lookups: Lookup[];
  strong: Reference[];
  weak: Reference[];
}

export interface Change {
  table: Table;
  uuid: string;
  before: Row | undefined;
  after: Row | undefined;
}

export type Json = null | boolean | number | string | Json[] | { [member: string]: Json };
export type Operation = { [member: string]: Json };

/** `waitMs` is set when a `wait` operation is not yet fulfilled: nothing was done, try again when something has changed. */
export interface Outcome {
  results: Json[];
  waitMs?: number;
}

export interface Database {
  schema: DatabaseSchema;
  tables: Map<string, Table>;
  transact(operations: Operation[]): Outcome;
  /** Called after each transaction that changed something. */
  onCommit(listener: (changes: Change[]) => void): () => void;
}

/** The external_ids key that leads a row back to its record, so often asked for that it deserves an index. */
const recordKey = 'belay:id';
const uuidType: ColumnType = { key: { type: 'uuid' }, min: 1, max: 1 };

class OvsdbError extends Error {
  readonly error: string;
  constructor(error: string, details: string) {
    super(details);
    this.error = error;
  }
}

class NotYet extends OvsdbError {
  readonly waitMs: number;
  constructor(waitMs: number) {
    super('timed out', '"wait" timed out');
    this.waitMs = waitMs;
  }
}

const violation = (details: string) => new OvsdbError('constraint violation', details);
const brokenReference = (details: string) => new OvsdbError('referential integrity violation', details);
const syntax = (details: string) => new OvsdbError('syntax error', details);

interface Transaction {
  before: Map<string, { table: Table; row: Row | undefined }>;
  named: Map<string, string>;
}

export function createDatabase(schema: DatabaseSchema): Database {
  const tables = new Map<string, Table>();
  for (const [name, tableSchema] of Object.entries(schema.tables)) tables.set(name, createTable(name, tableSchema));
  /** Strong references to each row. */
  const referenceCounts = new Map<string, number>();
  const listeners = new Set<(changes: Change[]) => void>();

  function tableOf(operation: Operation): Table {
    const table = tables.get(String(operation.table));
    if (!table) throw new OvsdbError('unknown table', `No table named ${operation.table}.`);
    return table;
  }

  function transact(operations: Operation[]): Outcome {
    const transaction: Transaction = { before: new Map(), named: new Map() };
    const results: Json[] = [];
    try {
      for (const operation of operations) {
        const name = operation['uuid-name'];
        if (operation.op !== 'insert' || name === undefined) continue;
        if (transaction.named.has(String(name)))
          throw new OvsdbError('duplicate uuid-name', `This "uuid-name" appeared on an earlier "insert": ${name}`);
        transaction.named.set(String(name), randomUUID());
      }
      for (const operation of operations) results.push(execute(transaction, operation));
    } catch (error) {
      undo(transaction);
      if (error instanceof NotYet && error.waitMs > 0) return { results: [], waitMs: error.waitMs };
      results.push(errorJson(error));
      while (results.length < operations.length) results.push(null);
      return { results };
    }
    let changes: Change[];
    try {
      changes = commit(transaction);
    } catch (error) {
      undo(transaction);
      results.push(errorJson(error));
      return { results };
    }
    if (changes.length > 0) for (const listener of listeners) listener(changes);
    return { results };
  }

  function undo(transaction: Transaction): void {
    for (const [uuid, { table, row }] of transaction.before) put(table, uuid, row);
  }

  function write(transaction: Transaction, table: Table, uuid: string, row: Row | undefined): void {
    if (!transaction.before.has(uuid)) transaction.before.set(uuid, { table, row: table.rows.get(uuid) });
    put(table, uuid, row);
  }

  function execute(transaction: Transaction, operation: Operation): Json {
    switch (operation.op) {
      case 'insert': {
        const table = tableOf(operation);
        const name = operation['uuid-name'];
        const uuid =
          typeof operation.uuid === 'string'
            ? operation.uuid
            : ((name === undefined ? undefined : transaction.named.get(String(name))) ?? randomUUID());
        if (table.rows.has(uuid)) throw violation(`A row with the UUID ${uuid} is already there.`);
        const given = parseRow(table, operation.row, transaction);
        const values: Record<string, Value> = {};
        for (const [column, type] of Object.entries(table.schema.columns)) {
          const value = given[column] ?? defaultValue(type);
          check(table, column, type, value);
          values[column] = value;
        }
        write(transaction, table, uuid, { uuid, version: randomUUID(), values });
        return { uuid: ['uuid', uuid] };
      }
      case 'select': {
        const table = tableOf(operation);
        const columns = columnsOf(table, operation.columns);
        const rows = distinct(
          find(table, operation.where, transaction).map((row) => rowJson(table, row, columns)),
          !columns.includes('_uuid'),
        );
        return { rows };
      }
      case 'update': {
        const table = tableOf(operation);
        const given = parseRow(table, operation.row, transaction);
        const rows = find(table, operation.where, transaction);
        for (const [column, value] of Object.entries(given)) check(table, column, columnType(table, column), value);
        for (const row of rows) {
          const values = { ...row.values, ...given };
          write(transaction, table, row.uuid, { ...row, values });
        }
        return { count: rows.length };
      }
      case 'mutate': {
        const table = tableOf(operation);
        const rows = find(table, operation.where, transaction);
        for (const row of rows) {
          const values = { ...row.values };
          for (const mutation of asArray(operation.mutations)) mutate(table, values, asArray(mutation), transaction);
          write(transaction, table, row.uuid, { ...row, values });
        }
        return { count: rows.length };
      }
      case 'delete': {
        const table = tableOf(operation);
        const rows = find(table, operation.where, transaction);
        for (const row of rows) write(transaction, table, row.uuid, undefined);
        return { count: rows.length };
      }
      case 'wait': {
        const table = tableOf(operation);
        const columns =
          operation.columns === undefined ? Object.keys(table.schema.columns) : columnsOf(table, operation.columns);
        const found = find(table, operation.where, transaction).map((row) =>
          rowKey(table, row.values, row.uuid, columns),
        );
        const wanted = asArray(operation.rows).map((json) => {
          const given = parseRow(table, json, transaction);
          const values = Object.fromEntries(
            columns.map((column) => [column, given[column] ?? defaultOf(table, column)]),
          );
          return rowKey(table, values, String(given._uuid ?? ''), columns);
        });
        const equal = new Set(found).size === new Set(wanted).size && wanted.every((key) => found.includes(key));
        if (equal === (operation.until === '==')) return {};
        throw new NotYet(operation.timeout === undefined ? 60_000 : Number(operation.timeout));
      }
      case 'comment':
      case 'commit':
        return {};
      case 'abort':
        throw new OvsdbError('aborted', 'aborted by request');
      case 'assert':
        throw new OvsdbError('not owner', `Asserted lock ${operation.lock} not held.`);
      default:
        throw syntax(`No operation named ${operation.op}.`);
    }
  }

  /** Settles references, collects garbage and checks what only holds at the end. Throws with nothing counted. */
  function commit(transaction: Transaction): Change[] {
    const deltas = new Map<string, { table: Table; by: number }>();
    const suspects: { table: Table; uuid: string }[] = [];
    const countOf = (uuid: string) => (referenceCounts.get(uuid) ?? 0) + (deltas.get(uuid)?.by ?? 0);

    const count = (table: Table, uuid: string, by: number) => {
      const delta = deltas.get(uuid);
      if (delta) delta.by += by;
      else deltas.set(uuid, { table, by });
      if (by < 0) suspects.push({ table, uuid });
    };
    const settle = (table: Table, before: Row | undefined, after: Row | undefined) => {
      for (const { column, table: target } of table.strong) {
        const old = before?.values[column];
        const now = after?.values[column];
        if (old === now) continue;
        const targetTable = tables.get(target);
        if (!targetTable) continue;
        const oldAtoms = atomsOf(old);
        const nowAtoms = atomsOf(now);
        for (const uuid of oldAtoms) if (!nowAtoms.has(uuid)) count(targetTable, String(uuid), -1);
        for (const uuid of nowAtoms) if (!oldAtoms.has(uuid)) count(targetTable, String(uuid), 1);
      }
    };

    for (const [uuid, { table, row }] of transaction.before) {
      const after = table.rows.get(uuid);
      settle(table, row, after);
      if (after && !row) suspects.push({ table, uuid });
    }
    for (let suspect = suspects.pop(); suspect; suspect = suspects.pop()) {
      const { table, uuid } = suspect;
      const row = table.rows.get(uuid);
      if (!row || table.schema.isRoot || countOf(uuid) > 0) continue;
      write(transaction, table, uuid, undefined);
      settle(table, row, undefined);
    }
    for (const [uuid, { table, by }] of deltas) {
      if (by > 0 && !table.rows.has(uuid))
        throw brokenReference(`A row refers to ${uuid} in table ${table.name}, which does not exist.`);
    }
    dropWeakReferences(transaction);

    const changes: Change[] = [];
    for (const [uuid, { table, row: before }] of transaction.before) {
      const after = table.rows.get(uuid);
      if (before === after) continue;
      if (!after && countOf(uuid) > 0)
        throw brokenReference(
          `cannot delete ${table.name} row ${uuid} because of ${countOf(uuid)} remaining reference(s)`,
        );
      if (after) checkUnique(table, after);
      if (after && before && sameValues(before, after)) {
        put(table, uuid, before);
        continue;
      }
      if (after) after.version = randomUUID();
      changes.push({ table, uuid, before, after });
      if (table.rows.size > table.schema.maxRows)
        throw violation(`Table ${table.name} may hold at most ${table.schema.maxRows} row(s).`);
    }
    for (const [uuid, { by }] of deltas) {
      const now = (referenceCounts.get(uuid) ?? 0) + by;
      if (now > 0) referenceCounts.set(uuid, now);
      else referenceCounts.delete(uuid);
    }
    return changes;
  }

  function dropWeakReferences(transaction: Transaction): void {
    const deleted = new Map<string, Set<string>>();
    for (const [uuid, { table }] of [...transaction.before]) {
      const row = table.rows.get(uuid);
      if (!row) {
        const uuids = deleted.get(table.name);
        if (uuids) uuids.add(uuid);
        else deleted.set(table.name, new Set([uuid]));
        continue;
      }
      const before = transaction.before.get(uuid)?.row;
      for (const { column, table: target } of table.weak) {
        if (before?.values[column] === row.values[column]) continue;
        const missing = [...atomsOf(row.values[column])].filter((atom) => !tables.get(target)?.rows.has(String(atom)));
        if (missing.length > 0) without(transaction, table, uuid, column, missing);
      }
    }
    if (deleted.size === 0) return;
    for (const table of tables.values()) {
      for (const { column, table: target } of table.weak) {
        const gone = deleted.get(target);
        if (!gone) continue;
        for (const row of table.rows.values()) {
          const atoms = atomsOf(row.values[column]);
          if (atoms.size === 0) continue;
          const lost = [...gone].filter((uuid) => atoms.has(uuid));
          if (lost.length > 0) without(transaction, table, row.uuid, column, lost);
        }
      }
    }
  }

  function without(transaction: Transaction, table: Table, uuid: string, column: string, atoms: Atom[]): void {
    const row = table.rows.get(uuid);
    if (!row) return;
    const left = new Set(atomsOf(row.values[column]));
    for (const atom of atoms) left.delete(atom);
    check(table, column, columnType(table, column), left);
    write(transaction, table, uuid, { ...row, values: { ...row.values, [column]: left } });
  }

  return {
    schema,
    tables,
    transact,
    onCommit(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}

function createTable(name: string, schema: TableSchema): Table {
  const references = (kind: 'strong' | 'weak') =>
    Object.entries(schema.columns).flatMap(([column, { key }]) =>
      key.refTable !== undefined && key.refType === kind ? [{ column, table: key.refTable }] : [],
    );
  const lookups: Lookup[] = schema.indexes.map((columns) => ({
    unique: true,
    columns,
    keyOf: (row) => columns.map((column) => String(row.values[column])).join('\n'),
    rows: new Map(),
  }));
  const nameIsUnique = schema.indexes.some((columns) => columns.length === 1 && columns[0] === 'name');
  if (schema.columns.name && isScalar(schema.columns.name) && !nameIsUnique)
    lookups.push({ unique: false, columns: ['name'], keyOf: (row) => String(row.values.name), rows: new Map() });
  if (schema.columns.external_ids)
    lookups.push({
      unique: false,
      columns: [recordKey],
      keyOf: ({ values: { external_ids } }) =>
        external_ids instanceof Map ? external_ids.get(recordKey)?.toString() : undefined,
      rows: new Map(),
    });
  return { name, schema, rows: new Map(), lookups, strong: references('strong'), weak: references('weak') };
}

function put(table: Table, uuid: string, row: Row | undefined): void {
  const before = table.rows.get(uuid);
  for (const lookup of table.lookups) {
    const old = before && lookup.keyOf(before);
    const now = row && lookup.keyOf(row);
    if (old === now) continue;
    if (old !== undefined) {
      const uuids = lookup.rows.get(old);
      uuids?.delete(uuid);
      if (uuids?.size === 0) lookup.rows.delete(old);
    }
    if (now !== undefined) {
      const uuids = lookup.rows.get(now);
      if (uuids) uuids.add(uuid);
      else lookup.rows.set(now, new Set([uuid]));
    }
  }
  if (row) table.rows.set(uuid, row);
  else table.rows.delete(uuid);
}

function checkUnique(table: Table, row: Row): void {
  for (const lookup of table.lookups) {
    if (!lookup.unique || (lookup.rows.get(lookup.keyOf(row) ?? '')?.size ?? 0) < 2) continue;
    const values = lookup.columns.map((column) => JSON.stringify(row.values[column])).join(', ');
    throw violation(
      `Transaction causes multiple rows in "${table.name}" table to have identical values (${values}) for index on ` +
        `column "${lookup.columns.join('", "')}".`,
    );
  }
}

function sameValues(a: Row, b: Row): boolean {
  for (const [column, value] of Object.entries(b.values)) {
    const other = a.values[column];
    if (other !== value && (other === undefined || !equalValues(other, value))) return false;
  }
  return true;
}

// ── Conditions and mutations ─────────────────────────────────────────────────────────────────────────────────────────

function find(table: Table, where: Json | undefined, transaction: Transaction): Row[] {
  if (!Array.isArray(where)) throw syntax('"where" must be an array of conditions.');
  const conditions = where.map((condition) => parseCondition(table, condition, transaction));
  const rows: Row[] = [];
  for (const row of candidates(table, conditions))
    if (conditions.every((condition) => holds(row, condition))) rows.push(row);
  return rows;
}

export interface Condition {
  column: string;
  relation: string;
  value: Value;
}

export function parseCondition(table: Table, json: Json, transaction?: Transaction): Condition {
  const [column, relation, value] = asArray(json);
  if (typeof column !== 'string' || typeof relation !== 'string' || value === undefined)
    throw syntax('A condition is [<column>, <function>, <value>].');
  const type = columnType(table, column);
  // For includes and excludes on a set or map, fewer elements than the column needs may be named.
  const loose = relation === 'includes' || relation === 'excludes' ? { ...type, min: 0 } : type;
  return { column, relation, value: parseValue(isScalar(type) ? type : loose, value, transaction) };
}

function candidates(table: Table, conditions: Condition[]): Iterable<Row> {
  const rowsOf = (uuids: Iterable<string>) =>
    [...uuids].flatMap((uuid) => {
      const row = table.rows.get(uuid);
      return row ? [row] : [];
    });
  for (const { column, relation, value } of conditions) {
    if (column === '_uuid' && relation === '==') return rowsOf([String(value)]);
    const wanted =
      column === 'external_ids' && value instanceof Map && (relation === 'includes' || relation === '==')
        ? { column: recordKey, key: value.get(recordKey) }
        : relation === '==' && typeof value === 'string'
          ? { column, key: value }
          : undefined;
    if (wanted?.key === undefined) continue;
    const lookup = table.lookups.find(({ columns }) => columns.length === 1 && columns[0] === wanted.column);
    if (lookup) return rowsOf(lookup.rows.get(String(wanted.key)) ?? []);
  }
  return table.rows.values();
}

export function holds(row: Row, { column, relation, value }: Condition): boolean {
  const own = column === '_uuid' ? row.uuid : column === '_version' ? row.version : row.values[column];
  if (own === undefined) return false;
  switch (relation) {
    case '==':
      return equalValues(own, value);
    case '!=':
      return !equalValues(own, value);
    case 'includes':
      return includes(own, value);
    case 'excludes':
      return excludes(own, value);
    default:
      return compareNumbers(own, relation, value);
  }
}

function compareNumbers(own: Value, relation: string, value: Value): boolean {
  const [left] = atomsOf(own);
  const [right] = atomsOf(value);
  if (left === undefined || right === undefined) return false;
  switch (relation) {
    case '<':
      return left < right;
    case '<=':
      return left <= right;
    case '>':
      return left > right;
    case '>=':
      return left >= right;
    default:
      throw syntax(`No function named ${relation}.`);
  }
}

function includes(own: Value, value: Value): boolean {
  if (own instanceof Map) {
    if (!(value instanceof Map)) return false;
    for (const [key, wanted] of value) if (own.get(key) !== wanted) return false;
    return true;
  }
  const atoms = atomsOf(own);
  for (const atom of atomsOf(value)) if (!atoms.has(atom)) return false;
  return true;
}

function excludes(own: Value, value: Value): boolean {
  if (own instanceof Map) {
    if (!(value instanceof Map)) return true;
    for (const [key, unwanted] of value) if (own.get(key) === unwanted) return false;
    return true;
  }
  const atoms = atomsOf(own);
  for (const atom of atomsOf(value)) if (atoms.has(atom)) return false;
  return true;
}

function mutate(table: Table, values: Record<string, Value>, mutation: Json[], transaction: Transaction): void {
  const [column, mutator, argument] = mutation;
  if (typeof column !== 'string' || typeof mutator !== 'string' || argument === undefined)
    throw syntax('A mutation is [<column>, <mutator>, <value>].');
  const type = columnType(table, column);
  const own = values[column];
  if (own === undefined) throw violation(`Column ${column} can not be changed.`);
  let next: Value;
  if (mutator === 'insert' || mutator === 'delete') {
    if (own instanceof Map) next = mutateMap(type, own, mutator, argument, transaction);
    else if (own instanceof Set) {
      next = new Set(own);
      for (const atom of atomsOf(
        parseValue({ ...type, min: 0, max: Number.POSITIVE_INFINITY }, argument, transaction),
      )) {
        if (mutator === 'insert') next.add(atom);
        else next.delete(atom);
      }
    } else throw syntax(`Mutator ${mutator} does not fit column ${column}.`);
  } else if (own instanceof Set) {
    next = new Set([...own].map((atom) => calculate(mutator, Number(atom), Number(argument), type.key)));
  } else if (typeof own === 'number') next = calculate(mutator, own, Number(argument), type.key);
  else throw syntax(`Mutator ${mutator} does not fit column ${column}.`);
  check(table, column, type, next);
  values[column] = next;
}

function mutateMap(
  type: ColumnType,
  own: Map<Atom, Atom>,
  mutator: 'insert' | 'delete',
  argument: Json,
  transaction: Transaction,
): Map<Atom, Atom> {
  const next = new Map(own);
  const isMapArgument = Array.isArray(argument) && argument[0] === 'map';
  if (isMapArgument || mutator === 'insert') {
    const given = parseValue({ ...type, min: 0 }, argument, transaction);
    if (given instanceof Map)
      for (const [key, value] of given) {
        // An insert never replaces a key that is there (RFC 7047 section 5.1); a delete wants the pair to match.
        if (mutator === 'insert' && !next.has(key)) next.set(key, value);
        if (mutator === 'delete' && next.get(key) === value) next.delete(key);
      }
  } else {
    const keys: ColumnType = { key: type.key, min: 0, max: Number.POSITIVE_INFINITY };
    for (const key of atomsOf(parseValue(keys, argument, transaction))) next.delete(key);
  }
  return next;
}

function calculate(mutator: string, own: number, argument: number, { type }: BaseType): number {
  const whole = (value: number) => (type === 'integer' ? Math.trunc(value) : value);
  switch (mutator) {
    case '+=':
      return own + argument;
    case '-=':
      return own - argument;
    case '*=':
      return own * argument;
    case '/=':
    case '%=':
      if (argument === 0) throw new OvsdbError('domain error', 'Division by zero.');
      return mutator === '/=' ? whole(own / argument) : own % argument;
    default:
      throw syntax(`No mutator named ${mutator}.`);
  }
}

// ── Values ───────────────────────────────────────────────────────────────────────────────────────────────────────────

export function isScalar({ value, min, max }: ColumnType): boolean {
  return !value && min === 1 && max === 1;
}

export function columnType(table: Table, column: string): ColumnType {
  if (column === '_uuid' || column === '_version') return uuidType;
  const type = table.schema.columns[column];
  if (!type) throw new OvsdbError('unknown column', `No column ${column} in table ${table.name}.`);
  return type;
}

/** The column names asked for, or all of them with `_uuid` and `_version`. */
export function columnsOf(table: Table, json: Json | undefined): string[] {
  if (json === undefined) return [...Object.keys(table.schema.columns), '_uuid', '_version'];
  return asArray(json).map((column) => {
    columnType(table, String(column));
    return String(column);
  });
}

const noAtoms: Set<Atom> = new Set();

export function atomsOf(value: Value | undefined): Set<Atom> {
  if (value === undefined) return noAtoms;
  if (value instanceof Set) return value;
  return value instanceof Map ? new Set(value.keys()) : new Set([value]);
}

export function equalValues(a: Value, b: Value): boolean {
  if (a instanceof Map) {
    if (!(b instanceof Map) || a.size !== b.size) return false;
    for (const [key, value] of a) if (b.get(key) !== value) return false;
    return true;
  }
  if (a instanceof Set) {
    if (!(b instanceof Set) || a.size !== b.size) return false;
    for (const atom of a) if (!b.has(atom)) return false;
    return true;
  }
  return a === b;
}

function defaultAtom({ type }: BaseType): Atom {
  switch (type) {
    case 'string':
      return '';
    case 'boolean':
      return false;
    case 'uuid':
      return '00000000-0000-0000-0000-000000000000';
    default:
      return 0;
  }
}

function defaultValue(type: ColumnType): Value {
  if (isScalar(type)) return defaultAtom(type.key);
  if (type.value) return new Map();
  return new Set(type.min > 0 ? [defaultAtom(type.key)] : []);
}

function defaultOf(table: Table, column: string): Value {
  return defaultValue(columnType(table, column));
}

function parseRow(table: Table, json: Json | undefined, transaction: Transaction): Record<string, Value> {
  if (json === undefined || json === null || typeof json !== 'object' || Array.isArray(json))
    throw syntax('"row" must be an object.');
  const values: Record<string, Value> = {};
  for (const [column, value] of Object.entries(json))
    values[column] = parseValue(columnType(table, column), value, transaction);
  return values;
}

function parseValue(type: ColumnType, json: Json, transaction?: Transaction): Value {
  if (type.value) {
    if (!Array.isArray(json) || json[0] !== 'map') throw syntax(`Expected a map, found ${JSON.stringify(json)}.`);
    const map = new Map<Atom, Atom>();
    for (const pair of asArray(json[1] ?? null)) {
      const [key, value] = asArray(pair);
      map.set(parseAtom(type.key, key, transaction), parseAtom(type.value, value, transaction));
    }
    return map;
  }
  const elements = Array.isArray(json) && json[0] === 'set' ? asArray(json[1] ?? null) : [json];
  if (isScalar(type)) {
    if (elements.length !== 1) throw syntax(`Expected one value, found ${JSON.stringify(json)}.`);
    return parseAtom(type.key, elements[0], transaction);
  }
  return new Set(elements.map((element) => parseAtom(type.key, element, transaction)));
}

function parseAtom({ type }: BaseType, json: Json | undefined, transaction: Transaction | undefined): Atom {
  if (type === 'uuid') {
    if (Array.isArray(json) && json[0] === 'uuid' && typeof json[1] === 'string') return json[1];
    if (Array.isArray(json) && json[0] === 'named-uuid') {
      const uuid = transaction?.named.get(String(json[1]));
      if (uuid !== undefined) return uuid;
    }
  } else if (type === 'integer' && typeof json === 'number' && Number.isInteger(json)) return json;
  else if (type === 'real' && typeof json === 'number') return json;
  else if (type === 'string' && typeof json === 'string') return json;
  else if (type === 'boolean' && typeof json === 'boolean') return json;
  throw syntax(`Expected ${type}, found ${JSON.stringify(json)}.`);
}

function check(table: Table, column: string, type: ColumnType, value: Value): void {
  if (column.startsWith('_')) throw violation(`Column ${column} can not be written.`);
  if (!isScalar(type)) {
    const size = value instanceof Map || value instanceof Set ? value.size : 1;
    if (size < type.min || size > type.max)
      throw violation(
        `Column ${column} of ${table.name} holds ${size} values, allowed are ${type.min} to ${type.max}.`,
      );
  }
  if (value instanceof Map) {
    for (const [key, element] of value) {
      checkAtom(column, type.key, key);
      if (type.value) checkAtom(column, type.value, element);
    }
  } else if (hasConstraint(type.key)) for (const atom of atomsOf(value)) checkAtom(column, type.key, atom);
}

function hasConstraint({ enum: words, minInteger, maxInteger, maxLength }: BaseType): boolean {
  return words !== undefined || minInteger !== undefined || maxInteger !== undefined || maxLength !== undefined;
}

function checkAtom(column: string, base: BaseType, atom: Atom): void {
  if (base.enum && !base.enum.includes(String(atom)))
    throw violation(`"${atom}" is not one of the allowed values of ${column} (${base.enum.join(', ')}).`);
  if (typeof atom === 'number' && (atom < (base.minInteger ?? -Infinity) || atom > (base.maxInteger ?? Infinity)))
    throw violation(`${atom} is not in the range of ${column}.`);
  if (typeof atom === 'string' && atom.length > (base.maxLength ?? Infinity))
    throw violation(`"${atom}" is longer than ${base.maxLength}, the limit of ${column}.`);
}

/** As it goes over the wire: a set of one is written as the bare atom. */
export function valueJson(type: ColumnType, value: Value): Json {
  if (value instanceof Map)
    return [
      'map',
      [...value].map(([key, element]) => [atomJson(type.key, key), atomJson(type.value ?? type.key, element)]),
    ];
  if (!(value instanceof Set)) return atomJson(type.key, value);
  const atoms = [...value].map((atom) => atomJson(type.key, atom));
  return atoms.length === 1 && atoms[0] !== undefined ? atoms[0] : ['set', atoms];
}

function atomJson({ type }: BaseType, atom: Atom): Json {
  return type === 'uuid' ? ['uuid', atom] : atom;
}

export function rowJson(table: Table, row: Row, columns: string[]): { [column: string]: Json } {
  const json: { [column: string]: Json } = {};
  for (const column of columns) {
    if (column === '_uuid') json._uuid = ['uuid', row.uuid];
    else if (column === '_version') json._version = ['uuid', row.version];
    else {
      const value = row.values[column];
      if (value !== undefined) json[column] = valueJson(columnType(table, column), value);
    }
  }
  return json;
}

/** Equal for rows whose columns are equal, whatever the order of sets and maps. */
function rowKey(table: Table, values: Record<string, Value>, uuid: string, columns: string[]): string {
  return JSON.stringify(
    columns.map((column) => {
      if (column === '_uuid') return uuid;
      const value = values[column];
      if (value instanceof Map) return [...value].map((pair) => JSON.stringify(pair)).sort();
      if (value instanceof Set) return [...value].map(String).sort();
      return value ?? columnType(table, column).key.type;
    }),
  );
}

function distinct<Item extends Json>(items: Item[], wanted: boolean): Item[] {
  if (!wanted || items.length < 2) return items;
  return [...new Map(items.map((item) => [JSON.stringify(item), item])).values()];
}

function asArray(json: Json | undefined): Json[] {
  if (!Array.isArray(json)) throw syntax(`Expected an array, found ${JSON.stringify(json)}.`);
  return json;
}

function errorJson(error: unknown): Json {
  if (error instanceof OvsdbError) return { error: error.error, details: error.message };
  throw error;
}
