/**
 * The whole control plane on one machine: PostgreSQL, Temporal with its web page, API, workers, dispatcher – each a process of its
 * own that is started again when it dies. The demo, the tests and a first try use it; a real installation runs the same processes
 * under its service manager.
 */

import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { bundleWorkflowCode, DefaultLogger } from '@temporalio/worker';
import { openDatabase } from '../database/database.ts';
import { ensureFirstKey, ensureInstallation } from '../database/installation.ts';
import { ensureDatabase, postgresPidFile, startPostgres } from '../postgres/embedded.ts';
import { logTail, type OwnedProcess, startOwnedProcess, stopByPidFile } from '../postgres/owned-process.ts';
import { migrate } from '../prisma/migrate.ts';
import type { CertificateFiles } from '../runtime/certificateFiles.ts';
import { nodeArguments, nodeCommand, nodeEnvironment } from '../runtime/node.mjs';
import { boardOf } from '../runtime/progress.mjs';
import { ensureTemporalBinaries, type TemporalBinaries } from '../temporal/binaries.ts';
import { startTemporal, startTemporalUi, temporalPidFiles } from '../temporal/server.ts';
import { assertPortsFree, type Ports } from './ports.ts';

const root = fileURLToPath(new URL('..', import.meta.url));

export const roles = {
  api: 'api/main.ts',
  control: 'workers/control.ts',
  host: 'workers/host.ts',
  dispatcher: 'workers/dispatcher.ts',
} as const;
export type Role = keyof typeof roles;

export interface OvnAddresses {
  nbRemote: string;
  sbRemote: string;
  /** Where OVN asks for certificates, PostgreSQL does, too: nothing is reached in clear. */
  tls?: CertificateFiles;
  /** Is told who signs the certificates of hosts. */
  trustHosts?(authority: string): void;
}

export interface StackOptions {
  home: string;
  ports: Ports;
  ovn: OvnAddresses;
  allowSimulatedHosts: boolean;
  faultInjection: boolean;
  /** How many processes carry the hosts; one unless said. */
  hostWorkers?: number;
  environment?: Record<string, string>;
  /** The Temporal that serves; the compiled one unless said, which takes minutes where it was never compiled. */
  temporal?: () => Promise<TemporalBinaries>;
  /** Settings of PostgreSQL beside its own. */
  postgres?: Readonly<Record<string, string>>;
  log(line: string): void;
}

export interface Stack {
  apiUrl: string;
  /** Of the administrator. */
  token: string;
  temporalUrl: string;
  temporalAddress: string;
  databaseUrl: string;
  logDirectory: string;
  /** Of a role that several processes have, that of the first. */
  pid(role: Role | 'postgres' | 'temporal'): number;
  pids(role: Role | 'postgres' | 'temporal'): number[];
  /** Ends the processes of a role without warning; they are started again. Resolves when the new ones are there. */
  kill(role: Role | 'postgres' | 'temporal'): Promise<void>;
  stop(): Promise<void>;
}

/** Temporal and its database take this long at the worst, on a machine that does much else. */
const restartLimitMs = 120_000;

/** A value made once and kept in a file that only its owner may read. */
function keptSecret(path: string, make: () => string): string {
  if (!existsSync(path)) writeFileSync(path, make(), { mode: 0o600 });
  return readFileSync(path, 'utf8').trim();
}

/** Builds the workflows once, so that each control worker starts at once; not at all where the environment names a bundle that is there. */
export async function bundleWorkflows(home: string): Promise<string> {
  const prebuilt = process.env.BELAY_WORKFLOW_BUNDLE ?? '';
  if (existsSync(prebuilt)) return prebuilt;
  const { code } = await bundleWorkflowCode({
    workflowsPath: join(root, 'workflows/index.ts'),
    logger: new DefaultLogger('ERROR'),
  });
  const path = join(home, 'workflows.js');
  writeFileSync(path, code);
  return path;
}

export async function startStack(options: StackOptions): Promise<Stack> {
  const { home, ports, log } = options;
  const logDirectory = join(home, 'logs');
  mkdirSync(logDirectory, { recursive: true });
  await stopStack(home);
  await assertPortsFree(ports);
  const timed = async <T>(what: string, work: Promise<T>): Promise<T> => {
    const started = Date.now();
    const result = await work;
    log(`${what} ${((Date.now() - started) / 1000).toFixed(1)} s`);
    return result;
  };

  const binaries = await timed(
    'Temporal binaries',
    options.temporal?.() ?? ensureTemporalBinaries(join(root, '.belay'), boardOf(log)),
  );
  const bundling = timed('workflows bundled', bundleWorkflows(home));
  const startDatabase = () =>
    startPostgres({
      dir: join(home, 'postgres'),
      port: ports.postgres,
      tls: options.ovn.tls !== undefined,
      ...(options.postgres ? { settings: options.postgres } : {}),
    });
  let postgres = await timed('PostgreSQL', startDatabase());
  const databaseUrl = await ensureDatabase(postgres.url(), 'belay');
  const installed = prepareDatabase(home, databaseUrl);
  const temporalOptions = (binariesOf: TemporalBinaries) => ({
    home,
    binaries: binariesOf,
    postgresUrl: postgres.url(),
    ports: {
      grpc: ports.temporal,
      metrics: ports.temporalMetrics,
      ui: ports.temporalUi,
      internal: ports.temporalInternal,
    },
  });
  let temporal = await timed('Temporal', startTemporal(temporalOptions(binaries)));
  const ui = await startTemporalUi({ home, binaries, address: temporal.address, port: ports.temporalUi });
  const token = await timed('database', installed);
  const workflowBundle = await bundling;

  const environment: NodeJS.ProcessEnv = {
    ...nodeEnvironment,
    ...process.env,
    NODE_ENV: 'production',
    BELAY_HOME: home,
    DATABASE_URL: databaseUrl,
    BELAY_TEMPORAL_ADDRESS: temporal.address,
    BELAY_TEMPORAL_NAMESPACE: temporal.namespace,
    BELAY_SECRET_KEY_FILE: join(home, 'secret-key'),
    BELAY_OVN_NORTHBOUND: options.ovn.nbRemote,
    BELAY_OVN_SOUTHBOUND: options.ovn.sbRemote,
    ...tlsEnvironment(options.ovn.tls),
    BELAY_API_PORT: String(ports.api),
    BELAY_WORKFLOW_BUNDLE: workflowBundle,
    ...(options.allowSimulatedHosts ? { BELAY_ALLOW_SIMULATED_HOSTS: '1' } : {}),
    ...(options.faultInjection ? { BELAY_FAULT_INJECTION: '1' } : {}),
    ...options.environment,
  };
  options.ovn.trustHosts?.(await printed('scripts/host-authority.ts', environment));
  const metricsPorts: Record<Role, number> = {
    api: 0,
    control: ports.controlMetrics,
    host: ports.hostMetrics,
    dispatcher: ports.dispatcherMetrics,
  };
  let stopping = false;
  const places = (Object.keys(roles) as Role[]).flatMap((role) =>
    Array.from({ length: role === 'host' ? (options.hostWorkers ?? 1) : 1 }, (_, n) => ({ role, n: n + 1 })),
  );
  /** By role, in the order of their numbers. */
  const processes: Record<Role, OwnedProcess[]> = { api: [], control: [], host: [], dispatcher: [] };

  function launch(role: Role, n: number): void {
    const name = n === 1 ? role : `${role}-${n}`;
    const started = startOwnedProcess({
      name,
      command: nodeCommand(),
      args: [...nodeArguments, join(root, roles[role])],
      cwd: root,
      env: {
        ...environment,
        BELAY_ROLE: role,
        BELAY_WORKER_ID: `${role}-${n}`,
        BELAY_METRICS_PORT: String(n === 1 ? metricsPorts[role] : 0),
      },
      logFile: join(logDirectory, `${name}.log`),
      pidFile: join(home, `${name}.pid`),
      stopSignal: 'SIGTERM',
    });
    processes[role][n - 1] = started;
    void started.exited.then((how) => {
      if (stopping) return;
      log(`${how}; starting it again`);
      setTimeout(() => {
        if (!stopping) launch(role, n);
      }, 200);
    });
  }

  /** Starts a server again until it runs: PostgreSQL waits for the last process of its predecessor, Temporal for PostgreSQL. */
  async function again<Running extends { stop(): Promise<void> }>(
    what: string,
    start: () => Promise<Running>,
    use: (running: Running) => void,
  ): Promise<void> {
    while (!stopping) {
      try {
        const running = await start();
        if (stopping) await running.stop();
        else use(running);
        return;
      } catch (error) {
        log(`${what} does not start, trying again: ${error instanceof Error ? error.message : String(error)}`);
        await new Promise((resolve) => setTimeout(resolve, 500));
      }
    }
  }
  const restarting = new Set<Promise<void>>();
  const keep = <Running extends { exited: Promise<string>; stop(): Promise<void> }>(
    what: string,
    running: Running,
    start: () => Promise<Running>,
    use: (running: Running) => void,
  ): void => {
    void running.exited.then((how) => {
      if (stopping) return;
      log(`${how}; starting it again`);
      const restart = again(what, start, (next) => {
        use(next);
        keep(what, next, start, use);
      });
      restarting.add(restart);
      void restart.finally(() => restarting.delete(restart));
    });
  };
  keep('PostgreSQL', postgres, startDatabase, (running) => {
    postgres = running;
  });
  keep(
    'Temporal',
    temporal,
    () => startTemporal(temporalOptions(binaries)),
    (running) => {
      temporal = running;
    },
  );
  for (const { role, n } of places) launch(role, n);
  const apiUrl = `http://127.0.0.1:${ports.api}`;
  await timed(
    'API and workers',
    Promise.all([
      apiReady(apiUrl, logDirectory),
      ...(['control', 'host', 'dispatcher'] as const).map((role) => listening(metricsPorts[role], role, logDirectory)),
    ]),
  );

  const pids = (role: Role | 'postgres' | 'temporal'): number[] =>
    role === 'postgres' ? [postgres.pid] : role === 'temporal' ? [temporal.pid] : processes[role].map(({ pid }) => pid);
  return {
    apiUrl,
    token,
    temporalUrl: ui.url,
    temporalAddress: temporal.address,
    databaseUrl,
    logDirectory,
    pid: (role) => pids(role)[0] ?? 0,
    pids,
    async kill(role) {
      const before = pids(role);
      for (const pid of before) process.kill(pid, 'SIGKILL');
      const areNew = (): boolean => pids(role).every((pid) => !before.includes(pid));
      for (const end = Date.now() + restartLimitMs; Date.now() < end && !areNew(); )
        await new Promise((resolve) => setTimeout(resolve, 50));
      if (!areNew())
        throw new Error(`${role} was not started again within ${restartLimitMs / 1000} s; logs: ${logDirectory}`);
    },
    async stop() {
      stopping = true;
      await Promise.all(
        Object.values(processes)
          .flat()
          .map((running) => running.stop(8_000)),
      );
      await Promise.all(restarting);
      await ui.stop();
      await temporal.stop();
      await postgres.stop();
    },
  };
}

async function prepareDatabase(home: string, databaseUrl: string): Promise<string> {
  keptSecret(join(home, 'secret-key'), () => randomBytes(32).toString('hex'));
  await migrate(databaseUrl);
  const database = openDatabase(databaseUrl, 2);
  try {
    await ensureInstallation(database);
    const token = await ensureFirstKey(database);
    const path = join(home, 'admin-token');
    if (token) writeFileSync(path, token, { mode: 0o600 });
    return readFileSync(path, 'utf8').trim();
  } finally {
    await database.close();
  }
}

const tlsEnvironment = (tls?: CertificateFiles): NodeJS.ProcessEnv =>
  tls
    ? {
        BELAY_OVN_TLS_CA_FILE: tls.ca,
        BELAY_OVN_TLS_CERTIFICATE_FILE: tls.certificate,
        BELAY_OVN_TLS_KEY_FILE: tls.key,
      }
    : {};

/** What a script says on its standard output. */
async function printed(script: string, env: NodeJS.ProcessEnv): Promise<string> {
  const { stdout } = await promisify(execFile)(nodeCommand(), [...nodeArguments, join(root, script)], {
    cwd: root,
    env,
  });
  return stdout;
}

async function apiReady(url: string, logDirectory: string): Promise<void> {
  await until(`the API at ${url}`, join(logDirectory, 'api.log'), async () => (await fetch(`${url}/readyz`)).ok);
}

async function listening(port: number, role: Role, logDirectory: string): Promise<void> {
  await until(
    role,
    join(logDirectory, `${role}.log`),
    async () => (await fetch(`http://127.0.0.1:${port}/healthz`)).ok,
  );
}

/** Where several stacks start side by side on a busy machine, one waits long for its share of the processor. */
const START_LIMIT_MS = 240_000;

async function until(what: string, logFile: string, condition: () => Promise<boolean>): Promise<void> {
  for (const end = Date.now() + START_LIMIT_MS; Date.now() < end; ) {
    if (await condition().catch(() => false)) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error(`${what} did not start within ${START_LIMIT_MS / 1_000} s; the end of its log:\n${logTail(logFile)}`);
}

const ofRole = new RegExp(`^(${Object.keys(roles).join('|')})(-\\d+)?\\.pid$`);

/** Ends whatever a runner that died left running in this home. */
export async function stopStack(home: string): Promise<void> {
  const pidFiles = existsSync(home) ? readdirSync(home).filter((name) => ofRole.test(name)) : [];
  await Promise.all(pidFiles.map((name) => stopByPidFile(join(home, name), 'SIGTERM', 8_000)));
  const { server, ui } = temporalPidFiles(home);
  await stopByPidFile(ui);
  await stopByPidFile(server, 'SIGTERM', 5_000);
  await stopByPidFile(postgresPidFile(join(home, 'postgres')), 'SIGINT');
}
