/**
 * The Temporal server and its web page for one machine: its databases, its configuration, its start.
 * An installation with a Temporal Service of its own needs `prepareNamespace` only.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Connection, isGrpcServiceError } from '@temporalio/client';
import { encodeSearchAttributeIndexedValueType } from '@temporalio/common/lib/search-attributes.js';
import { msToTs } from '@temporalio/common/lib/time.js';
import pg from 'pg';
import { ensureDatabase } from '../postgres/embedded.ts';
import {
  assertPortFree,
  claimPidFile,
  logTail,
  type OwnedProcess,
  startOwnedProcess,
} from '../postgres/owned-process.ts';
import { postgresConnection } from '../runtime/postgresConnection.ts';
import type { BuiltBinaries, CliBinary, TemporalBinaries } from './binaries.ts';
import type { TemporalAccess } from './connection.ts';
import { searchAttributes } from './search-attributes.ts';

export const BELAY_NAMESPACE = 'belay';
/** How long a finished operation can be looked at in Temporal; Belay's own records keep it beyond that. */
const RETENTION = '7 days';
const DATABASES = { main: 'temporal', visibility: 'temporal_visibility' } as const;
/**
 * Fixed for the life of the databases. Eight remote steps in a row on two cores, one workflow at a time: 149–177 ms with
 * 4 shards, 253 with 16, 450 with one; fifty at a time: 13 per second with 4 and 16, 6–9 with one.
 */
const HISTORY_SHARDS = 4;
const READY_TIMEOUT_MS = 90_000;
const GRPC_NOT_FOUND = 5;
const GRPC_ALREADY_EXISTS = 6;

export interface TemporalPorts {
  /** Where clients and workers connect. */
  grpc: number;
  /** Prometheus metrics of the server. */
  metrics: number;
  /** The web page. */
  ui: number;
  /** First of seven consecutive ports that the server's own parts use between themselves. */
  internal: number;
}

export interface StartTemporalOptions {
  /** Directory of all run-time state; the server's files lie in its `temporal` folder. */
  home: string;
  binaries: TemporalBinaries;
  /** A PostgreSQL database that its user may make databases from; not used with the `temporal` command. */
  postgresUrl: string;
  ports: TemporalPorts;
  log?: (line: string) => void;
}

export interface RunningTemporal {
  address: string;
  namespace: string;
  pid: number;
  /** Resolves with a description when the server ends, whoever ended it. */
  exited: Promise<string>;
  stop(): Promise<void>;
}

/** The pid files of the server and its web page, for `stopByPidFile`. */
export const temporalPidFiles = (home: string): { server: string; ui: string } => ({
  server: join(home, 'temporal/server.pid'),
  ui: join(home, 'temporal/ui.pid'),
});

/**
 * Starts the server and returns once workflows can be started, searched and executed in the namespace `belay`.
 * Everything listens on 127.0.0.1. Ends with the process that started it.
 */
export async function startTemporal(options: StartTemporalOptions): Promise<RunningTemporal> {
  const { home, binaries, ports, log = () => {} } = options;
  const directory = join(home, 'temporal');
  const pidFile = temporalPidFiles(home).server;
  const logFile = join(directory, 'server.log');
  mkdirSync(directory, { recursive: true });
  await claimPidFile('Temporal', pidFile, 'SIGTERM');
  await assertPortFree('Temporal', ports.grpc, 'BELAY_TEMPORAL_PORT');
  await assertPortFree("Temporal's metrics", ports.metrics, 'BELAY_TEMPORAL_METRICS_PORT');

  const { command, args } =
    'cli' in binaries ? cliCommand(binaries, directory, ports) : await serverCommand(binaries, options, directory);
  if ('cli' in binaries) await assertPortFree("Temporal's web page", ports.ui, 'BELAY_TEMPORAL_UI_PORT');
  const server = startOwnedProcess({
    name: 'Temporal',
    command,
    args,
    cwd: directory,
    env: { PATH: process.env.PATH ?? '/usr/bin:/bin', HOME: directory },
    logFile,
    pidFile,
    stopSignal: 'SIGTERM',
  });
  const address = `127.0.0.1:${ports.grpc}`;
  try {
    await Promise.race([prepareNamespace({ address, signal: endOf(server) }), failWhenEnded(server, logFile)]);
  } catch (error) {
    await server.stop();
    throw error;
  }
  log(`Temporal serves ${address}, namespace ${BELAY_NAMESPACE}`);
  return {
    address,
    namespace: BELAY_NAMESPACE,
    pid: server.pid,
    exited: server.exited,
    // Right after a change of ports a clean end takes 14 s; a kill loses nothing that PostgreSQL has acknowledged.
    stop: () => server.stop(5_000),
  };
}

export interface StartTemporalUiOptions {
  home: string;
  binaries: TemporalBinaries;
  /** Address of the Temporal server. */
  address: string;
  port: number;
}

export interface RunningTemporalUi {
  url: string;
  /** Absent with the `temporal` command, whose server brings the page along. */
  pid?: number;
  stop(): Promise<void>;
}

/** Starts Temporal's web page and returns once it answers. */
export async function startTemporalUi(options: StartTemporalUiOptions): Promise<RunningTemporalUi> {
  const { home, binaries, address, port } = options;
  const url = `http://127.0.0.1:${port}/`;
  if ('cli' in binaries) {
    await untilAnswers(url, "Temporal's web page");
    return { url, stop: async () => {} };
  }
  const directory = join(home, 'temporal');
  const pidFile = temporalPidFiles(home).ui;
  const logFile = join(directory, 'ui.log');
  await claimPidFile("Temporal's web page", pidFile, 'SIGTERM');
  await assertPortFree("Temporal's web page", port, 'BELAY_TEMPORAL_UI_PORT');
  mkdirSync(join(directory, 'ui'), { recursive: true });
  writeYaml(join(directory, 'ui/base.yaml'), {
    temporalGrpcAddress: address,
    host: '127.0.0.1',
    port,
    enableUi: true,
    defaultNamespace: BELAY_NAMESPACE,
    // The page would ask the internet for a newer version of itself.
    disableNewsFetch: true,
    hideLogs: true,
    cors: { allowOrigins: [url.slice(0, -1)] },
  });
  writeYaml(join(directory, 'ui/development.yaml'), {});
  const page = startOwnedProcess({
    name: "Temporal's web page",
    command: binaries.ui,
    args: ['--root', directory, '--config', 'ui', 'start'],
    cwd: directory,
    env: { PATH: process.env.PATH ?? '/usr/bin:/bin', HOME: directory },
    logFile,
    pidFile,
    stopSignal: 'SIGTERM',
  });
  try {
    await Promise.race([untilAnswers(url, "Temporal's web page", endOf(page)), failWhenEnded(page, logFile)]);
  } catch (error) {
    await page.stop();
    throw error;
  }
  return { url, pid: page.pid, stop: () => page.stop() };
}

/**
 * Makes the namespace and its search attributes in any Temporal Service and waits until they can be used.
 * Changes nothing when they are there. Throws the last refusal after 90 seconds, or when the signal aborts.
 */
export async function prepareNamespace(
  options: TemporalAccess & { namespace?: string; signal?: AbortSignal | undefined },
): Promise<void> {
  const { namespace = BELAY_NAMESPACE, signal, ...access } = options;
  const until = { deadline: Date.now() + READY_TIMEOUT_MS, signal };
  const connection = await eventually(until, () => Connection.connect({ ...access, connectTimeout: '2 seconds' }));
  try {
    await eventually(until, () => ensureNamespace(connection, namespace));
    await eventually(until, () => ensureSearchAttributes(connection, namespace));
    // Only a search by each attribute proves that the server's own copy of the namespace has them.
    const query = searchAttributes.map(({ name }) => `${name} = 'none'`).join(' OR ');
    await eventually(until, () => connection.workflowService.listWorkflowExecutions({ namespace, query, pageSize: 1 }));
  } finally {
    await connection.close();
  }
}

async function ensureNamespace({ workflowService }: Connection, namespace: string): Promise<void> {
  try {
    await workflowService.describeNamespace({ namespace });
  } catch (error) {
    if (!hasGrpcCode(error, GRPC_NOT_FOUND)) throw error;
    await workflowService
      .registerNamespace({ namespace, workflowExecutionRetentionPeriod: msToTs(RETENTION) })
      .catch(ignoreGrpcCode(GRPC_ALREADY_EXISTS));
  }
}

async function ensureSearchAttributes({ operatorService }: Connection, namespace: string): Promise<void> {
  const { customAttributes } = await operatorService.listSearchAttributes({ namespace });
  const missing = searchAttributes.filter(({ name }) => customAttributes?.[name] === undefined);
  if (missing.length === 0) return;
  const typeOf = encodeSearchAttributeIndexedValueType;
  await operatorService.addSearchAttributes({
    namespace,
    searchAttributes: Object.fromEntries(missing.map(({ name, type }) => [name, typeOf(type) ?? 0])),
  });
}

const hasGrpcCode = (error: unknown, code: number): boolean => isGrpcServiceError(error) && error.code === code;

const ignoreGrpcCode = (code: number) => (error: unknown) => {
  if (!hasGrpcCode(error, code)) throw error;
};

interface Until {
  deadline: number;
  signal: AbortSignal | undefined;
}

/** Repeats what a starting server refuses, until the deadline or the signal; then throws the last refusal. */
async function eventually<T>({ deadline, signal }: Until, attempt: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if (Date.now() > deadline || signal?.aborted) throw error;
      await delay(50);
    }
  }
}

async function untilAnswers(url: string, name: string, signal?: AbortSignal): Promise<void> {
  await eventually({ deadline: Date.now() + READY_TIMEOUT_MS, signal }, async () => {
    const response = await fetch(url);
    if (!response.ok) throw new Error(`${name} answers ${response.status} at ${url}`);
    await response.body?.cancel();
  });
}

function endOf(server: OwnedProcess): AbortSignal {
  const ended = new AbortController();
  void server.exited.then(() => ended.abort());
  return ended.signal;
}

async function failWhenEnded(server: OwnedProcess, logFile: string): Promise<never> {
  const ending = await server.exited;
  throw new Error(`${ending}; ${logFile} says:\n${logTail(logFile)}`);
}

/** JSON is YAML, and needs no thought about quoting. */
function writeYaml(file: string, content: object) {
  writeFileSync(file, `${JSON.stringify(content, null, 2)}\n`, { mode: 0o600 });
}

interface CommandLine {
  command: string;
  args: string[];
}

async function serverCommand(
  binaries: BuiltBinaries,
  { postgresUrl, ports, log = () => {} }: StartTemporalOptions,
  directory: string,
): Promise<CommandLine> {
  for (let port = ports.internal; port < ports.internal + 7; port++) {
    await assertPortFree("Temporal's own parts", port, 'BELAY_TEMPORAL_INTERNAL_PORT');
  }
  await updateSchema({ binaries, postgresUrl, directory, database: DATABASES.main, schema: 'temporal', log });
  await updateSchema({ binaries, postgresUrl, directory, database: DATABASES.visibility, schema: 'visibility', log });
  const dynamicConfigFile = join(directory, 'dynamic.yaml');
  const configFile = join(directory, 'server.yaml');
  writeYaml(dynamicConfigFile, dynamicConfig());
  writeYaml(configFile, serverConfig(postgresUrl, ports, dynamicConfigFile));
  // Who may call is decided by who reaches 127.0.0.1.
  return { command: binaries.server, args: ['--config-file', configFile, '--allow-no-auth', 'start'] };
}

interface SchemaUpdate {
  binaries: BuiltBinaries;
  postgresUrl: string;
  directory: string;
  database: string;
  schema: 'temporal' | 'visibility';
  log: (line: string) => void;
}

/** Brings a database to the schema inside the server's own binaries. */
async function updateSchema({ binaries, postgresUrl, directory, database, schema, log }: SchemaUpdate): Promise<void> {
  const databaseUrl = await ensureDatabase(postgresUrl, database);
  const tool = (args: string[]) => runSqlTool(binaries.sql, databaseUrl, args, directory);
  if (!(await hasTable(databaseUrl, 'schema_version'))) {
    log(`making Temporal's ${schema} tables`);
    await tool(['setup-schema', '-v', '0.0']);
  }
  await tool(['update-schema', '--schema-name', `postgresql/v12/${schema}`]);
}

async function hasTable(databaseUrl: string, table: string): Promise<boolean> {
  const client = new pg.Client(postgresConnection(databaseUrl)());
  await client.connect();
  try {
    const { rows } = await client.query('SELECT to_regclass($1) IS NOT NULL AS found', [table]);
    return rows[0]?.found === true;
  } finally {
    await client.end();
  }
}

async function runSqlTool(sql: string, databaseUrl: string, args: string[], directory: string): Promise<void> {
  const { host, port, user, password, database, tls } = connectionParts(databaseUrl);
  const logFile = join(directory, 'schema.log');
  const tool = startOwnedProcess({
    name: "Temporal's schema tool",
    command: sql,
    args: [
      ...['--plugin', 'postgres12', '--ep', host, '-p', port, '-u', user, '--db', database],
      ...(tls ? sqlToolTls(tls, host) : []),
      ...args,
    ],
    cwd: directory,
    // The password goes by the environment: arguments are readable by every user of the machine.
    env: { PATH: process.env.PATH ?? '/usr/bin:/bin', SQL_PASSWORD: password },
    logFile,
    pidFile: join(directory, 'schema.pid'),
    stopSignal: 'SIGTERM',
  });
  const ending = await tool.exited;
  if (!ending.endsWith('exit code 0')) throw new Error(`${ending}; ${logFile} says:\n${logTail(logFile)}`);
}

function connectionParts(databaseUrl: string) {
  const url = new URL(databaseUrl);
  return {
    host: url.hostname,
    port: url.port || '5432',
    user: decodeURIComponent(url.username),
    password: decodeURIComponent(url.password),
    database: decodeURIComponent(url.pathname.slice(1)),
    tls: url.searchParams.get('sslmode') === 'verify-full' ? tlsOf(url.searchParams) : null,
  };
}

/** Files of the server's own settings, as the URL of its database names them. */
interface DatabaseTls {
  caFile?: string;
  certFile?: string;
  keyFile?: string;
}

function tlsOf(parameters: URLSearchParams): DatabaseTls {
  const named = { caFile: 'sslrootcert', certFile: 'sslcert', keyFile: 'sslkey' };
  return Object.fromEntries(
    Object.entries(named).flatMap(([setting, keyword]) => {
      const path = parameters.get(keyword);
      return path ? [[setting, path]] : [];
    }),
  );
}

const sqlToolTls = ({ caFile, certFile, keyFile }: DatabaseTls, host: string): string[] => [
  ...['--tls', '--tls-server-name', host],
  ...(caFile ? ['--tls-ca-file', caFile] : []),
  ...(certFile ? ['--tls-cert-file', certFile] : []),
  ...(keyFile ? ['--tls-key-file', keyFile] : []),
];

/** Of each of the four services, which open pools of their own. */
const CONNECTIONS = { main: 16, visibility: 4 };
/** What Temporal takes of PostgreSQL's connections at most. */
export const temporalConnections = 4 * (CONNECTIONS.main + CONNECTIONS.visibility);

function serverConfig(postgresUrl: string, ports: TemporalPorts, dynamicConfigFile: string): object {
  const { host, port, user, password, tls } = connectionParts(postgresUrl);
  const store = (databaseName: string, maxConns: number) => ({
    sql: {
      // Keeps statements prepared; the other driver has each one parsed anew. A saga of seven steps costs PostgreSQL 22 ms so, 36 otherwise.
      pluginName: 'postgres12_pgx',
      databaseName,
      connectAddr: `${host}:${port}`,
      connectProtocol: 'tcp',
      user,
      password,
      maxConns,
      maxIdleConns: maxConns,
      maxConnLifetime: '1h',
      ...(tls ? { tls: { enabled: true, enableHostVerification: true, serverName: host, ...tls } } : {}),
    },
  });
  const service = (grpcPort: number, membershipPort: number) => ({
    rpc: { grpcPort, membershipPort, bindOnLocalHost: true },
  });
  const { grpc, metrics, internal } = ports;
  return {
    log: { stdout: true, level: 'error' },
    persistence: {
      defaultStore: 'main',
      visibilityStore: 'visibility',
      numHistoryShards: HISTORY_SHARDS,
      datastores: {
        main: store(DATABASES.main, CONNECTIONS.main),
        visibility: store(DATABASES.visibility, CONNECTIONS.visibility),
      },
    },
    global: {
      membership: { maxJoinDuration: '30s', broadcastAddress: '127.0.0.1' },
      metrics: { prometheus: { timerType: 'histogram', listenAddress: `127.0.0.1:${metrics}` } },
    },
    services: {
      frontend: service(grpc, internal),
      matching: service(internal + 1, internal + 2),
      history: service(internal + 3, internal + 4),
      worker: service(internal + 5, internal + 6),
    },
    clusterMetadata: {
      enableGlobalNamespace: false,
      failoverVersionIncrement: 10,
      masterClusterName: 'active',
      currentClusterName: 'active',
      clusterInformation: {
        active: { enabled: true, initialFailoverVersion: 1, rpcName: 'frontend', rpcAddress: `127.0.0.1:${grpc}` },
      },
    },
    dcRedirectionPolicy: { policy: 'noop' },
    // No archival block: the server refuses one that says "disabled".
    dynamicConfigClient: { filepath: dynamicConfigFile, pollInterval: '10s' },
  };
}

/** One machine serves one user: no part may be throttled below what the machine can do. */
const DYNAMIC_SETTINGS: Readonly<Record<string, number | boolean | string>> = {
  'system.enableActivityEagerExecution': true,
  'system.enableEagerWorkflowStart': true,
  // Partitions spread a task queue over machines; on one they only delay tasks.
  'matching.numTaskqueueReadPartitions': 1,
  'matching.numTaskqueueWritePartitions': 1,
  // Tasks of one project, however many, do not stand before those of the others: they take turns.
  'matching.enableFairness': true,
  // A worker whose machine is suspended or cut off still seems to wait for tasks, and those that it is handed are lost until they time out. It is
  // noticed after this long and ten seconds more.
  'frontend.keepAliveTime': '5s',
  'frontend.rps': 100_000,
  'frontend.namespaceRPS': 100_000,
  'frontend.namespaceRPS.visibility': 1_000,
  // Long polls of 64 host queues and the control workers stand here at once.
  'frontend.namespaceCount': 10_000,
  'frontend.persistenceMaxQPS': 100_000,
  'history.rps': 100_000,
  'history.persistenceMaxQPS': 100_000,
  'matching.rps': 100_000,
  'matching.persistenceMaxQPS': 100_000,
};

function dynamicConfig(): object {
  return Object.fromEntries(Object.entries(DYNAMIC_SETTINGS).map(([name, value]) => [name, [{ value }]]));
}

/** The `temporal` command's development server; it carries the web page itself. */
function cliCommand({ cli }: CliBinary, directory: string, ports: TemporalPorts): CommandLine {
  const dynamic = Object.entries(DYNAMIC_SETTINGS).flatMap(([name, value]) => [
    '--dynamic-config-value',
    `${name}=${JSON.stringify(value)}`,
  ]);
  return {
    command: cli,
    args: [
      ...['server', 'start-dev', '--ip', '127.0.0.1', '--port', String(ports.grpc), '--ui-port', String(ports.ui)],
      ...['--metrics-port', String(ports.metrics), '--db-filename', join(directory, 'temporal.sqlite')],
      // With the defaults every commit waits for the disk: a third of the speed.
      ...['--sqlite-pragma', 'journal_mode=wal', '--sqlite-pragma', 'synchronous=normal'],
      ...['--log-level', 'error', ...dynamic],
    ],
  };
}
