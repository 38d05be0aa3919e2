import { timingSafeEqual } from 'node:crypto';
import net from 'node:net';
import type { Duplex } from 'node:stream';
import ssh2, { type Client, type ConnectConfig, type ServerHostKeyAlgorithm, type SFTPWrapper } from 'ssh2';
import { AgentError } from './agentError.ts';

export interface SshTarget {
  address: string;
  port?: number;
  user?: string;
  privateKey?: string;
  password?: string;
  hostKey?: string;
  /** Until the host says that it is an SSH server, which sshd does at once; the log-in behind it may take longer. */
  connectTimeoutMs?: number;
}

export interface RunOptions {
  /** Written to the command's standard input, which is then closed. */
  input?: string;
  timeoutMs?: number;
  signal?: AbortSignal;
}

export interface RunResult {
  code: number;
  stdout: string;
  stderr: string;
}

/** One SSH connection to a host. */
export interface SshSession {
  /** Base64 of the host's public key. */
  readonly hostKey: string;
  /** Resolves when the connection is gone: with the reason, or with undefined after `end()`. Never rejects. */
  readonly closed: Promise<AgentError | undefined>;
  /** A stream to a unix socket of the host. */
  openSocket(path: string): Promise<Duplex>;
  /** Runs one command; every element of `argv` reaches it literally. A code other than 0 is an answer, not an error. */
  run(argv: string[], options?: RunOptions): Promise<RunResult>;
  /** Writes a file beside its place and renames it: a reader sees the old content or the new. */
  upload(path: string, content: string | Buffer, mode: number): Promise<void>;
  end(): Promise<void>;
}

const CONNECT_TIMEOUT_MS = 4_000;
const LOGIN_TIMEOUT_MS = 10_000;
const KEEPALIVE_MS = 5_000;
const KEEPALIVES_MISSED = 3;
const RUN_TIMEOUT_MS = 60_000;

/** For a POSIX shell, which is what sshd hands a command line to. */
export function quoteArgument(argument: string): string {
  return /^[\w@%+=:,./-]+$/.test(argument) ? argument : `'${argument.replaceAll("'", "'\\''")}'`;
}

/** The bare base64 part: `ssh-ed25519 AAAA… comment` and `AAAA…` name the same key. */
export function bareHostKey(hostKey: string): string {
  const words = hostKey.trim().split(/\s+/);
  return (words.length > 1 ? words[1] : words[0]) ?? '';
}

/**
 * The pinned key's own algorithms first: a host has keys of several types, and with the usual order it could present another
 * one than the one that was pinned. The rest stays, so that a replaced key is seen and refused instead of failing to negotiate.
 */
export function hostKeyAlgorithms(pinned: Buffer | undefined): ServerHostKeyAlgorithm[] {
  const all: ServerHostKeyAlgorithm[] = [
    'ssh-ed25519',
    'ecdsa-sha2-nistp256',
    'ecdsa-sha2-nistp384',
    'ecdsa-sha2-nistp521',
    'rsa-sha2-512',
    'rsa-sha2-256',
  ];
  if (!pinned || pinned.length < 4) return all;
  const type = pinned.toString('latin1', 4, 4 + pinned.readUInt32BE(0));
  const isPinned = (name: string) => name === type || (type === 'ssh-rsa' && name.startsWith('rsa-'));
  return [...all.filter(isPinned), ...all.filter((name) => !isPinned(name))];
}

/**
 * Logs in, with the host's key pinned.
 *
 * @throws AgentError HOST_UNREACHABLE when nobody answers in time, PRECONDITION_FAILED when the key is another one
 * (nothing was sent) or the login is refused.
 */
export async function openSsh(target: SshTarget): Promise<SshSession> {
  const host = target.address;
  const silenceMs = target.connectTimeoutMs ?? CONNECT_TIMEOUT_MS;
  const pinned = target.hostKey === undefined ? undefined : Buffer.from(bareHostKey(target.hostKey), 'base64');
  const client = new ssh2.Client();
  let presented: Buffer | undefined;
  let keyRefused = false;

  // ssh2 leaves Nagle's algorithm on, which costs 40 ms per round trip; so the socket is made here.
  const socket = net.connect({ host, port: target.port ?? 22, noDelay: true });
  const config: ConnectConfig = {
    sock: socket,
    username: target.user ?? 'root',
    readyTimeout: LOGIN_TIMEOUT_MS,
    keepaliveInterval: KEEPALIVE_MS,
    keepaliveCountMax: KEEPALIVES_MISSED,
    algorithms: { serverHostKey: hostKeyAlgorithms(pinned) },
    hostVerifier: (key: Buffer) => {
      presented = Buffer.from(key);
      keyRefused = pinned !== undefined && !(pinned.length === key.length && timingSafeEqual(pinned, key));
      return !keyRefused;
    },
    ...(target.privateKey === undefined ? {} : { privateKey: target.privateKey }),
    ...(target.password === undefined ? {} : { password: target.password }),
  };

  await new Promise<void>((resolve, reject) => {
    const silence = setTimeout(() => fail(new Error('no answer')), silenceMs);
    const fail = (error: Error & { level?: string }) => {
      clearTimeout(silence);
      client.removeAllListeners();
      client.on('error', () => {});
      client.destroy();
      socket.destroy();
      reject(connectError(host, target, error, keyRefused, silenceMs));
    };
    client.once('ready', () => {
      client.removeAllListeners('error');
      resolve();
    });
    client.once('error', fail);
    client.once('close', () => fail(new Error('connection closed during the handshake')));
    try {
      client.connect(config);
      socket.on('data', function greeted(chunk: Buffer) {
        if (!chunk.includes('SSH-')) return;
        clearTimeout(silence);
        socket.off('data', greeted);
      });
    } catch (error) {
      fail(error as Error); // for example a private key that can not be parsed
    }
  });

  let ended = false;
  let reason: AgentError | undefined;
  const closed = new Promise<AgentError | undefined>((resolve) => {
    client.on('error', (error: Error) => {
      reason = new AgentError('HOST_UNREACHABLE', `connection to ${host} was lost: ${error.message}`, true, host);
    });
    client.removeAllListeners('close').once('close', () => {
      if (ended) resolve(undefined);
      else resolve(reason ?? new AgentError('HOST_UNREACHABLE', `connection to ${host} was closed`, true, host));
    });
  });

  return {
    hostKey: (presented ?? Buffer.alloc(0)).toString('base64'),
    closed,
    openSocket: (path) => openSocket(client, host, path),
    run: (argv, options) => run(client, host, argv, options),
    upload: (path, content, mode) => upload(client, host, path, content, mode),
    async end() {
      ended = true;
      client.end();
      // A host that hangs never answers the goodbye.
      const force = setTimeout(() => client.destroy(), 2_000);
      await closed;
      clearTimeout(force);
    },
  };
}

function connectError(
  host: string,
  target: SshTarget,
  error: Error & { level?: string; code?: string },
  keyRefused: boolean,
  silenceMs: number,
): AgentError {
  if (keyRefused) {
    return new AgentError(
      'PRECONDITION_FAILED',
      `${host} presented another host key than the one pinned at first contact; nothing was sent. If the machine was really reinstalled, delete the host with force, and add it as a new one`,
      false,
      host,
    );
  }
  if (error.level === 'client-authentication') {
    const means = target.privateKey ? 'key' : 'password';
    return new AgentError(
      'PRECONDITION_FAILED',
      `${host} refused the login of ${target.user ?? 'root'} by ${means}`,
      false,
      host,
    );
  }
  if (/Cannot parse privateKey|no key/i.test(error.message)) {
    return new AgentError('INVALID_ARGUMENT', `the private key for ${host} can not be read`, false, host);
  }
  const what =
    error.message === 'no answer'
      ? `did not answer as an SSH server within ${silenceMs} ms`
      : error.level === 'client-timeout'
        ? `answers, and its log-in was not done within ${LOGIN_TIMEOUT_MS} ms`
        : `can not be reached: ${error.code ?? error.message}`;
  return new AgentError('HOST_UNREACHABLE', `${host} ${what}`, true, host);
}

function openSocket(client: Client, host: string, path: string): Promise<Duplex> {
  return new Promise((resolve, reject) => {
    const fail = (error: Error) =>
      reject(new AgentError('HOST_UNREACHABLE', `nobody serves ${path} on ${host}: ${error.message}`, true, host));
    try {
      client.openssh_forwardOutStreamLocal(path, (error, channel) => (error ? fail(error) : resolve(channel)));
    } catch (error) {
      fail(error as Error);
    }
  });
}

function run(client: Client, host: string, argv: string[], options: RunOptions = {}): Promise<RunResult> {
  const timeoutMs = options.timeoutMs ?? RUN_TIMEOUT_MS;
  const command = argv.map(quoteArgument).join(' ');
  return new Promise((resolve, reject) => {
    options.signal?.throwIfAborted();
    const fail = (error: unknown) => {
      clearTimeout(deadline);
      options.signal?.removeEventListener('abort', aborted);
      reject(error);
    };
    const deadline = setTimeout(
      () => fail(new AgentError('TIMEOUT', `${argv[0]} on ${host} took longer than ${timeoutMs} ms`, true, host)),
      timeoutMs,
    );
    const aborted = () => fail(options.signal?.reason);
    options.signal?.addEventListener('abort', aborted, { once: true });
    const lost = (message: string) => new AgentError('HOST_UNREACHABLE', `${host}: ${message}`, true, host);
    try {
      client.exec(command, (error, channel) => {
        if (error) return fail(lost(error.message));
        const stdout: Buffer[] = [];
        const stderr: Buffer[] = [];
        let code: number | undefined;
        channel.on('data', (chunk: Buffer) => stdout.push(chunk));
        channel.stderr.on('data', (chunk: Buffer) => stderr.push(chunk));
        channel.on('exit', (status: number | null) => {
          code = status ?? 255;
        });
        channel.on('close', () => {
          if (code === undefined) return fail(lost(`connection was lost while ${argv[0]} ran`));
          clearTimeout(deadline);
          options.signal?.removeEventListener('abort', aborted);
          resolve({ code, stdout: Buffer.concat(stdout).toString(), stderr: Buffer.concat(stderr).toString() });
        });
        channel.end(options.input ?? '');
      });
    } catch (error) {
      fail(lost((error as Error).message));
    }
  });
}

async function upload(client: Client, host: string, path: string, content: string | Buffer, mode: number) {
  const failed = (error: Error) =>
    new AgentError('BACKEND_UNAVAILABLE', `${path} on ${host}: ${error.message}`, true, host);
  const sftp = await new Promise<SFTPWrapper>((resolve, reject) => {
    client.sftp((error, session) => (error ? reject(failed(error)) : resolve(session)));
  });
  try {
    const part = `${path}.part`;
    await new Promise<void>((resolve, reject) => {
      sftp
        .createWriteStream(part, { mode })
        .on('error', (error: Error) => reject(failed(error)))
        .on('close', resolve)
        .end(content);
    });
    // The mode of an already existing part file is not changed by opening it.
    await new Promise<void>((resolve, reject) => {
      sftp.chmod(part, mode, (error) => (error ? reject(failed(error)) : resolve()));
    });
    await new Promise<void>((resolve, reject) => {
      sftp.ext_openssh_rename(part, path, (error) => (error ? reject(failed(error)) : resolve()));
    });
  } finally {
    sftp.end();
  }
}
