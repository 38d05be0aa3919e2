/** The OVSDB protocol (RFC 7047, ovsdb-server(7)) over TCP, for the databases it is given. */
import net from 'node:net';
import type { Faults } from './faults.ts';
import { schemaJson } from './ovnSchema.ts';
import {
  atomsOf,
  type Change,
  type Condition,
  columnsOf,
  columnType,
  type Database,
  equalValues,
  holds,
  type Json,
  type Operation,
  parseCondition,
  type Row,
  rowJson,
  type Table,
  type Value,
  valueJson,
} from './ovsdbDatabase.ts';
import { problemOf } from './problem.ts';

interface TableMonitor {
  columns: string[];
  select: { initial: boolean; insert: boolean; delete: boolean; modify: boolean };
  where: Condition[][] | boolean;
}

interface Monitor {
  id: Json;
  database: Database;
  /** The notification's method; `update2` and `update3` carry differences. */
  method: 'update' | 'update2' | 'update3';
  tables: Map<Table, TableMonitor[]>;
}

interface Session {
  socket: net.Socket;
  monitors: Map<string, Monitor>;
  ends: (() => void)[];
}

class RpcError extends Error {
  readonly error: string;
  constructor(error: string, details: string) {
    super(details);
    this.error = error;
  }
}

type TableUpdates = { [table: string]: { [uuid: string]: Json } };

/** ovsdb-server numbers transactions for `monitor_cond_since`; without a history every client starts afresh. */
const noTransaction = '00000000-0000-0000-0000-000000000000';

export function createOvsdbServer(databases: Database[], faults: Faults): net.Server {
  const sessions = new Set<Session>();

  for (const database of databases)
    database.onCommit((changes) => {
      for (const session of sessions)
        for (const monitor of session.monitors.values())
          if (monitor.database === database) notify(session, monitor, changes);
    });

  const server = net.createServer((socket) => {
    const session: Session = { socket, monitors: new Map(), ends: [] };
    sessions.add(session);
    socket.setNoDelay(true).setEncoding('utf8');
    const feed = createFramer((message) => receive(session, message));
    socket.on('data', (chunk) => {
      try {
        feed(chunk.toString());
      } catch {
        socket.destroy();
      }
    });
    socket.on('error', () => socket.destroy());
    socket.on('close', () => {
      sessions.delete(session);
      for (const end of session.ends) end();
    });
  });

  function receive(session: Session, message: { [member: string]: Json }): void {
    const { method, id = null } = message;
    if (typeof method !== 'string') return;
    const parameters = Array.isArray(message.params) ? message.params : [];
    const reply = (result: Json) => send(session, { id, result, error: null });
    try {
      const database = databases.find(({ schema }) => schema.name === parameters[0]);
      if (database && method === 'transact') transact(session, database, parameters.slice(1) as Operation[], reply);
      else reply(answerTo(session, method, database, parameters));
    } catch (error) {
      const details = error instanceof Error ? error.message : String(error);
      send(session, {
        id,
        result: null,
        error: { error: error instanceof RpcError ? error.error : 'syntax error', details },
      });
    }
  }

  function answerTo(session: Session, method: string, database: Database | undefined, parameters: Json[]): Json {
    switch (method) {
      case 'echo':
        return parameters;
      case 'list_dbs':
        return databases.map(({ schema }) => schema.name);
      case 'monitor_cancel':
        if (session.monitors.delete(JSON.stringify(parameters[0]))) return {};
        throw new RpcError('unknown monitor', `No monitor ${JSON.stringify(parameters[0])}`);
      // Clients ask for these before they use newer methods; the answers of an ordinary stand-alone server.
      case 'set_db_change_aware':
        return {};
      case 'get_server_id':
        return noTransaction;
    }
    if (!database) throw new RpcError('unknown database', `No database ${parameters[0]}, or no method ${method}`);
    switch (method) {
      case 'get_schema':
        return schemaJson(database.schema) as Json;
      case 'monitor':
        return startMonitor(session, database, 'update', parameters);
      case 'monitor_cond':
        return startMonitor(session, database, 'update2', parameters);
      case 'monitor_cond_since':
        return [false, noTransaction, startMonitor(session, database, 'update3', parameters)];
      default:
        throw new RpcError('unknown method', `No method ${method}`);
    }
  }

  async function transact(
    session: Session,
    database: Database,
    operations: Operation[],
    reply: (result: Json) => void,
  ): Promise<void> {
    const comment = operations.find(({ op }) => op === 'comment')?.comment;
    const calls = typeof comment === 'string' ? ['ovn.transact', `ovn.transact ${comment}`] : ['ovn.transact'];
    const gone = () => {
      const closed = new AbortController();
      session.ends.push(() => closed.abort());
      return closed.signal;
    };
    try {
      const before = faults.strike('ovn', calls, 'before', gone);
      if (before && (await before) === 'drop') return cut(session);
      let outcome = database.transact(operations);
      if (outcome.waitMs !== undefined) outcome = await transactLater(session, database, operations, outcome.waitMs);
      const after = faults.strike('ovn', calls, 'after', gone);
      if (after && (await after) === 'drop') return cut(session);
      reply(outcome.results);
    } catch (error) {
      const { message } = problemOf(error);
      reply([{ error: 'I/O error', details: message }, ...operations.slice(1).map(() => null)]);
    }
  }

  /** Tries again at every commit until the operation's `wait` is fulfilled or its time is over. */
  function transactLater(session: Session, database: Database, operations: Operation[], waitMs: number) {
    return new Promise<{ results: Json[] }>((resolve) => {
      let scheduled = false;
      const settle = (results: Json[]) => {
        clearTimeout(timer);
        stopListening();
        resolve({ results });
      };
      const stopListening = database.onCommit(() => {
        if (scheduled) return;
        scheduled = true;
        setImmediate(() => {
          scheduled = false;
          const outcome = database.transact(operations);
          if (outcome.waitMs === undefined) settle(outcome.results);
        });
      });
      const lastTry = operations.map((operation) =>
        operation.op === 'wait' ? { ...operation, timeout: 0 } : operation,
      );
      const timer = setTimeout(() => settle(database.transact(lastTry).results), waitMs);
      session.ends.push(() => settle([]));
    });
  }

  function startMonitor(session: Session, database: Database, method: Monitor['method'], parameters: Json[]): Json {
    const [, id = null, requests] = parameters;
    const key = JSON.stringify(id);
    if (session.monitors.has(key)) throw new Error('duplicate monitor ID');
    const monitor: Monitor = { id, database, method, tables: new Map() };
    for (const [name, request] of Object.entries((requests ?? {}) as { [table: string]: Json })) {
      const table = database.tables.get(name);
      if (!table) throw new Error(`No table named ${name}.`);
      const list = (Array.isArray(request) ? request : [request]) as { [member: string]: Json }[];
      monitor.tables.set(
        table,
        list.map((item) => tableMonitor(table, item)),
      );
    }
    session.monitors.set(key, monitor);
    const updates: TableUpdates = {};
    for (const [table, monitors] of monitor.tables)
      for (const row of table.rows.values())
        for (const item of monitors) {
          if (!item.select.initial || !matches(row, item)) continue;
          const json = rowJson(table, row, item.columns);
          add(updates, table, row.uuid, method === 'update' ? { new: json } : { initial: json });
        }
    return updates;
  }

  function notify(session: Session, monitor: Monitor, changes: Change[]): void {
    const updates: TableUpdates = {};
    let any = false;
    for (const change of changes)
      for (const item of monitor.tables.get(change.table) ?? []) {
        const json = monitor.method === 'update' ? update(change, item) : update2(change, item);
        if (json === undefined) continue;
        any = true;
        add(updates, change.table, change.uuid, json);
      }
    if (!any) return;
    const params = monitor.method === 'update3' ? [monitor.id, noTransaction, updates] : [monitor.id, updates];
    send(session, { id: null, method: monitor.method, params });
  }

  return server;
}

function cut(session: Session): void {
  session.socket.destroy();
}

function send(session: Session, message: { [member: string]: Json }): void {
  if (session.socket.writable) session.socket.write(JSON.stringify(message));
}

function add(updates: TableUpdates, table: Table, uuid: string, json: Json): void {
  const rows = updates[table.name];
  if (rows) rows[uuid] = json;
  else updates[table.name] = { [uuid]: json };
}

function tableMonitor(table: Table, request: { [member: string]: Json }): TableMonitor {
  const select = (request.select ?? {}) as { [kind: string]: Json };
  const where = request.where;
  return {
    columns: request.columns === undefined ? Object.keys(table.schema.columns) : columnsOf(table, request.columns),
    select: {
      initial: select.initial !== false,
      insert: select.insert !== false,
      delete: select.delete !== false,
      modify: select.modify !== false,
    },
    where: parseWhere(table, where),
  };
}

/** A monitor's conditions are alternatives: a row is seen when any of them holds. */
function parseWhere(table: Table, where: Json | undefined): TableMonitor['where'] {
  if (where === undefined || where === true) return true;
  if (where === false) return false;
  if (!Array.isArray(where)) throw new Error('"where" must be an array or a boolean.');
  if (where.length === 0 || where.includes(true)) return true;
  return where.filter((clause) => clause !== false).map((clause) => [parseCondition(table, clause)]);
}

function matches(row: Row, { where }: TableMonitor): boolean {
  if (typeof where === 'boolean') return where;
  return where.some((conditions) => conditions.every((condition) => holds(row, condition)));
}

function changedColumns({ before, after }: Change, columns: string[]): string[] {
  return columns.filter((column) => {
    const old = before?.values[column];
    const now = after?.values[column];
    return old !== now && !(old !== undefined && now !== undefined && equalValues(old, now));
  });
}

function update(change: Change, monitor: TableMonitor): Json | undefined {
  const { table, before, after } = change;
  const { columns, select } = monitor;
  if (before && after) {
    const changed = changedColumns(change, columns);
    if (!select.modify || changed.length === 0) return undefined;
    return { old: rowJson(table, before, changed), new: rowJson(table, after, columns) };
  }
  if (after) return select.insert ? { new: rowJson(table, after, columns) } : undefined;
  return before && select.delete ? { old: rowJson(table, before, columns) } : undefined;
}

function update2(change: Change, monitor: TableMonitor): Json | undefined {
  const { table } = change;
  const { columns, select } = monitor;
  // A row that comes to fit the condition appears, one that no longer fits disappears.
  const before = change.before && matches(change.before, monitor) ? change.before : undefined;
  const after = change.after && matches(change.after, monitor) ? change.after : undefined;
  if (before && after) {
    const changed = changedColumns(change, columns);
    if (!select.modify || changed.length === 0) return undefined;
    return { modify: Object.fromEntries(changed.map((column) => [column, difference(table, column, before, after)])) };
  }
  if (after) return select.insert ? { insert: rowJson(table, after, columns) } : undefined;
  return before && select.delete ? { delete: null } : undefined;
}

/** Sets and maps of more than one element change by their symmetric difference, all else by the new value (ovsdb-server(7)). */
function difference(table: Table, column: string, before: Row, after: Row): Json {
  const type = columnType(table, column);
  const old = before.values[column];
  const now = after.values[column];
  if (now === undefined || old === undefined) return null;
  if (type.max === 1) return valueJson(type, now);
  return valueJson(type, now instanceof Map && old instanceof Map ? mapDifference(old, now) : setDifference(old, now));
}

function mapDifference(old: Extract<Value, Map<unknown, unknown>>, now: Extract<Value, Map<unknown, unknown>>): Value {
  const changed: typeof now = new Map();
  for (const [key, value] of old) if (!now.has(key)) changed.set(key, value);
  for (const [key, value] of now) if (old.get(key) !== value) changed.set(key, value);
  return changed;
}

function setDifference(old: Value, now: Value): Value {
  const oldAtoms = atomsOf(old);
  const nowAtoms = atomsOf(now);
  return new Set([
    ...[...oldAtoms].filter((atom) => !nowAtoms.has(atom)),
    ...[...nowAtoms].filter((atom) => !oldAtoms.has(atom)),
  ]);
}

/** JSON texts follow each other without a frame: counts braces outside strings to find where each ends. */
export function createFramer(receive: (message: { [member: string]: Json }) => void): (chunk: string) => void {
  const quote = 34;
  const backslash = 92;
  const openBrace = 123;
  const closeBrace = 125;
  let parts: string[] = [];
  let depth = 0;
  let inString = false;
  let escaped = false;
  return (chunk) => {
    let start = 0;
    for (let at = 0; at < chunk.length; at += 1) {
      const code = chunk.charCodeAt(at);
      if (inString) {
        if (escaped) escaped = false;
        else if (code === backslash) escaped = true;
        else if (code === quote) inString = false;
      } else if (code === quote) inString = true;
      else if (code === openBrace) depth += 1;
      else if (code === closeBrace) {
        depth -= 1;
        if (depth > 0) continue;
        parts.push(chunk.slice(start, at + 1));
        start = at + 1;
        const text = parts.join('');
        parts = [];
        receive(JSON.parse(text));
      }
    }
    if (start < chunk.length) parts.push(chunk.slice(start));
  };
}
