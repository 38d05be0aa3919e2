#!/usr/bin/env node
/**
 * Prisma's schema engine without a download: takes the arguments of the native `schema-engine` program and answers its
 * JSON-RPC on stdio, using Prisma's own engine compiled to WebAssembly over the `pg` driver.
 *
 * The protocol is internal to Prisma; `prisma`, `@prisma/schema-engine-wasm` and the adapter packages stay pinned to
 * versions that belong together. Used by the `prisma` command only, never by a running Belay.
 */
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import { PrismaPg } from '@prisma/adapter-pg';
import { bindMigrationAwareSqlAdapterFactory } from '@prisma/driver-adapter-utils';
import * as wasmBindings from '@prisma/schema-engine-wasm/schema_engine_bg';
import pg from 'pg';

const enginePackage = dirname(createRequire(import.meta.url).resolve('@prisma/schema-engine-wasm'));

const { values: options, positionals } = parseArgs({
  options: {
    datamodels: { type: 'string', multiple: true, default: [] },
    datasource: { type: 'string', default: '{}' },
    'enabled-preview-features': { type: 'string' },
    'extension-types': { type: 'string' },
    version: { type: 'boolean' },
  },
  allowPositionals: true,
});
/** @type {{ url?: string, shadowDatabaseUrl?: string }} */
const datasource = JSON.parse(options.datasource);

function printVersion() {
  const { version } = JSON.parse(readFileSync(join(enginePackage, 'package.json'), 'utf8'));
  console.log(`schema-engine-cli ${version.split('.').pop()}`);
}

/** Splits a URL into fields: a connection string would win over the `database` that the shadow database needs. */
function connectionOf(url) {
  const { hostname, port, username, password, pathname, searchParams } = new URL(url);
  const sslMode = searchParams.get('sslmode') ?? 'disable';
  const text = (keyword) => (searchParams.has(keyword) ? readFileSync(searchParams.get(keyword), 'utf8') : undefined);
  return {
    client: {
      host: searchParams.get('host') ?? decodeURIComponent(hostname),
      port: Number(port || 5432),
      user: decodeURIComponent(username) || undefined,
      password: decodeURIComponent(password) || undefined,
      database: decodeURIComponent(pathname.slice(1)) || 'postgres',
      ssl:
        sslMode === 'disable'
          ? undefined
          : {
              rejectUnauthorized: sslMode.startsWith('verify'),
              ca: text('sslrootcert'),
              cert: text('sslcert'),
              key: text('sslkey'),
            },
      options: '-c timezone=UTC',
    },
    schema: searchParams.get('schema') ?? undefined,
  };
}

/** Runs a function with one connection to a database, which is closed afterwards. */
async function withClient(connection, database, work) {
  const client = new pg.Client({ ...connection, database });
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

async function createDatabase(url) {
  const { client: connection } = connectionOf(url);
  const { database } = connection;
  const neighbour = database === 'postgres' ? 'template1' : 'postgres';
  await withClient(connection, neighbour, (client) => client.query(`CREATE DATABASE ${pg.escapeIdentifier(database)}`));
  return { databaseName: database };
}

/** Connections for the engine. They are all of one session, because the engine's advisory lock lives in a session. */
class EngineConnections extends PrismaPg {
  #connection;
  #schema;
  #open = new Set();

  constructor({ client, schema }) {
    super(EngineConnections.#poolOf(client), { schema });
    this.#connection = client;
    this.#schema = schema;
  }

  static #poolOf(connection) {
    return { ...connection, max: 1, allowExitOnIdle: true };
  }

  async connect() {
    return this.#track(forMigrations(await super.connect()));
  }

  async connectToShadowDb() {
    if (datasource.shadowDatabaseUrl !== undefined) {
      const shadow = connectionOf(datasource.shadowDatabaseUrl);
      const adapter = await new PrismaPg(EngineConnections.#poolOf(shadow.client), { schema: shadow.schema }).connect();
      return this.#track(forMigrations(adapter));
    }
    const connection = this.#connection;
    const name = pg.escapeIdentifier(`prisma_migrate_shadow_db_${randomUUID()}`);
    const database = name.slice(1, -1);
    await withClient(connection, connection.database, (client) => client.query(`CREATE DATABASE ${name}`));
    const pool = EngineConnections.#poolOf({ ...connection, database });
    const adapter = forMigrations(await new PrismaPg(pool, { schema: this.#schema }).connect());
    return this.#track(adapter, () =>
      withClient(connection, connection.database, (client) =>
        client.query(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`),
      ),
    );
  }

  /** Lets an adapter be disposed once, by the engine or by `closeAll`, with what has to follow the close. */
  #track(adapter, afterClose = async () => {}) {
    const close = adapter.dispose.bind(adapter);
    adapter.dispose = async () => {
      if (!this.#open.delete(adapter)) return;
      await close();
      await afterClose();
    };
    this.#open.add(adapter);
    return adapter;
  }

  async closeAll() {
    for (const adapter of [...this.#open]) await adapter.dispose();
  }
}

const OID_CHAR = 18;
const OID_TEXT = 25;
/** The engine's condition for "check and exclusion constraints" dates from before PostgreSQL 18 ... */
const CHECK_CONSTRAINTS = "contype NOT IN ('p', 'u', 'f')";
/** ... which also lists NOT NULL as a constraint. Any that the engine reads over an adapter makes it panic; its models know none of them. */
const CHECK_CONSTRAINTS_SINCE_18 = "contype NOT IN ('p', 'u', 'f', 'n', 'c', 'x')";

/**
 * Makes an adapter fit for migrations: catalog queries return the type "char", which the stock adapter refuses; and
 * scripts go to the server whole, where the stock adapter splits them at each semicolon, even inside `$$ … $$`.
 */
function forMigrations(adapter) {
  const performIO = adapter.performIO.bind(adapter);
  adapter.performIO = async (query) => {
    const result = await performIO({ ...query, sql: query.sql.replace(CHECK_CONSTRAINTS, CHECK_CONSTRAINTS_SINCE_18) });
    for (const field of result.fields ?? []) if (field.dataTypeID === OID_CHAR) field.dataTypeID = OID_TEXT;
    return result;
  };
  adapter.executeScript = async (script) => {
    try {
      await adapter.underlyingDriver().query(script);
    } catch (error) {
      adapter.onError(error);
    }
  };
  return adapter;
}

const logLine = (level, fields) =>
  process.stderr.write(
    `${JSON.stringify({ timestamp: new Date().toISOString(), level, fields, target: 'schema_engine::logger' })}\n`,
  );

/** Codes of https://www.prisma.io/docs/orm/reference/error-reference by PostgreSQL's and the system's. */
const ERROR_CODES = {
  '3D000': 'P1003',
  '28P01': 'P1000',
  '42P04': 'P1009',
  28000: 'P1010',
  ECONNREFUSED: 'P1001',
  ENOTFOUND: 'P1001',
  ETIMEDOUT: 'P1001',
  EHOSTUNREACH: 'P1001',
};

function userError(error) {
  // A host name with several addresses fails with one error for each.
  const { code, message } = error.errors?.[0] ?? error;
  const errorCode = ERROR_CODES[code] ?? 'P1012';
  return {
    is_panic: false,
    error_code: errorCode,
    message: errorCode === 'P1001' ? `Can't reach database server: ${message}` : message,
  };
}

async function runDatabaseCommand(command) {
  // The prisma command skips the first line of stderr.
  logLine('INFO', { message: 'Starting schema engine CLI', git_hash: 'wasm' });
  try {
    const { client: connection } = connectionOf(datasource.url);
    const { database } = connection;
    if (command === 'can-connect-to-database') {
      await withClient(connection, database, (client) => client.query('SELECT 1'));
    } else if (command === 'create-database') {
      await createDatabase(datasource.url);
    } else if (command === 'drop-database') {
      await withClient(connection, 'postgres', (client) =>
        client.query(`DROP DATABASE ${pg.escapeIdentifier(database)} WITH (FORCE)`),
      );
      logLine('INFO', { message: 'The database was successfully dropped' });
    } else throw new Error(`unknown command ${command}`);
  } catch (error) {
    logLine('ERROR', userError(error));
    process.exitCode = 1;
  }
}

let wasmLoading;
function loadWasm() {
  wasmLoading ??= (async () => {
    const bytes = readFileSync(join(enginePackage, 'schema_engine_bg.wasm'));
    const { instance } = await WebAssembly.instantiate(bytes, { './schema_engine_bg.js': wasmBindings });
    wasmBindings.__wbg_set_wasm(instance.exports);
    instance.exports.__wbindgen_start();
  })();
  return wasmLoading;
}

/** Runs a function with an engine of its own: applying migrations clears what an engine knows of its shadow database. */
async function withEngine(method, work) {
  await loadWasm();
  const target = datasource.url === undefined ? localDefault() : connectionOf(datasource.url);
  if (method === 'diff') await useAnyDatabase(target.client);
  const connections = new EngineConnections(target);
  const datamodels = options.datamodels.map((path) => [path, readFileSync(path, 'utf8')]);
  const engine = await wasmBindings.SchemaEngine.new(
    { datamodels: datamodels.length === 0 ? undefined : datamodels },
    (message) => logLine('INFO', { message: String(message) }),
    bindMigrationAwareSqlAdapterFactory(connections),
  );
  try {
    return await work(engine);
  } finally {
    engine.free();
    await connections.closeAll();
  }
}

const localDefault = () => connectionOf('postgresql://127.0.0.1/postgres');

/** The engine connects even to compare two schema files: any database of the server will do. */
async function useAnyDatabase(connection) {
  try {
    await withClient(connection, connection.database, () => {});
  } catch (error) {
    if (error.code !== '3D000') throw error;
    connection.database = 'postgres';
  }
}

async function call(method, params) {
  if (method === 'createDatabase') return createDatabase(params.datasource.url ?? datasource.url);
  return withEngine(method, async (engine) => {
    switch (method) {
      case 'getDatabaseVersion':
        return engine.version(params);
      case 'diff': {
        const { stdout, ...result } = await engine.diff(params);
        if (stdout) send({ id: 'print', method: 'print', params: { content: stdout.replace(/\n$/, '') } });
        return result;
      }
      case 'introspect':
        return engine.introspect({ namespaces: null, ...params });
      case 'evaluateDataLoss':
      case 'createMigration':
        // Both look at the shadow database that this call leaves behind in the engine.
        await engine.devDiagnostic({ migrationsList: params.migrationsList, filters: params.filters });
        return engine[method](params);
      default:
        return (await engine[method](params)) ?? null;
    }
  });
}

const send = (message) => process.stdout.write(`${JSON.stringify({ jsonrpc: '2.0', ...message })}\n`);

async function answer({ id, method, params }) {
  try {
    send({ id, result: await call(method, params) });
  } catch (error) {
    sendError(id, error);
  }
}

function sendError(id, { code, message }) {
  const isPrismaCode = typeof code === 'string' && /^P\d+$/.test(code);
  const data = { is_panic: false, message, error_code: isPrismaCode ? code : ERROR_CODES[code], meta: null };
  send({ id, error: { code: 4466, message: 'An error happened. Check the data field for details.', data } });
}

/** A panic of the engine throws past the call that caused it: answer that call, or the prisma command ends with 0. */
function answerPanics(idInWork) {
  let panic;
  globalThis.PRISMA_WASM_PANIC_REGISTRY = {
    set_message(message) {
      panic = message;
    },
  };
  process.once('uncaughtException', (error) => {
    sendError(idInWork(), new Error(panic ?? error.stack));
    process.exitCode = 101;
    process.stdin.destroy();
  });
}

/** Answers one request after another until stdin ends. */
function serveRpc() {
  let last = Promise.resolve();
  let idInWork;
  answerPanics(() => idInWork);
  createInterface({ input: process.stdin, crlfDelay: Number.POSITIVE_INFINITY })
    .on('line', (line) => {
      if (line.trim() === '') return;
      const message = JSON.parse(line);
      // Without a method it is the reply to our own `print`.
      if (message.method === undefined) return;
      last = last.then(() => {
        idInWork = message.id;
        return answer(message);
      });
    })
    .on('close', () => last.finally(() => process.exit()));
}

if (options.version) printVersion();
else if (positionals[0] === 'cli') await runDatabaseCommand(positionals[1]);
else serveRpc();
