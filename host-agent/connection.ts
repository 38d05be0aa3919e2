import http from 'node:http';
import type { Socket } from 'node:net';
import { PassThrough, type Readable } from 'node:stream';
import { AgentError } from './agentError.ts';
import type { AgentProblem } from './problem.ts';
import {
  type AgentHealth,
  CALLS,
  type CallName,
  type Calls,
  type HostEvent,
  isQuestion,
  type QuestionName,
  type Task,
  type TaskName,
  type Tasks,
} from './protocol.ts';
import { openSsh, type SshSession, type SshTarget } from './ssh.ts';
import {
  CLOCK_HEADER,
  LEASE_HEADER,
  type Lease,
  leaseText,
  MESSAGE_SECONDS,
  type Moment,
  momentText,
  readMoment,
  STEP_HEADER,
  type Stamp,
  stepText,
  UNTIL_HEADER,
} from './stamp.ts';

export { AgentError } from './agentError.ts';

/**
 * How to reach a host: over SSH; by `sim://127.0.0.1:PORT/NAME` for plain HTTP to a simulated one; by `sim://<name>/NAME` in the way that `reachSimulatedBy`
 * was told of.
 */
export type HostTarget = SshTarget;

/** What only a real host has: a shell and a file system, for the installer. */
export type HostShell = Pick<SshSession, 'run' | 'upload'>;

export interface RequestOptions {
  signal?: AbortSignal;
  timeoutMs?: number;
}

/** A connection that is kept, and carries many requests at once. By itself it only asks; what changes something goes through `as`. */
export interface HostConnection {
  /** The address, for messages. */
  readonly host: string;
  /** Base64 of the host's public key; null for simulated hosts. */
  readonly hostKey: string | null;
  /** Null for simulated hosts, which come with their agent. */
  readonly shell: HostShell | null;
  readonly isOpen: boolean;
  /** Resolves when the connection is gone: with the reason, or with undefined after `close()`. Never rejects. */
  readonly closed: Promise<AgentError | undefined>;
  /**
   * One question, one answer.
   *
   * @throws AgentError with the agent's problem; TIMEOUT after `timeoutMs`, or as long as the protocol gives this call; HOST_UNREACHABLE when the connection or
   * the agent is gone. Aborting `signal` throws its reason; what the host had begun it may still finish.
   */
  call<N extends QuestionName>(
    name: N,
    input: Calls[N]['input'],
    options?: RequestOptions,
  ): Promise<Calls[N]['result']>;
  /**
   * The same host for one try of a step, whose stamp goes along with everything. `confirm` throws when the try is not the present one any more:
   * what changes something is sent only with a moment that the host's clock said before the last answer to that, and is not acted on later than
   * `MESSAGE_SECONDS` after it.
   */
  as(stamp: Stamp, confirm: () => Promise<void>): HostInStep;
  /**
   * The first event is `hello`. Resolves when `signal` is aborted; throws HOST_UNREACHABLE when the stream breaks. `onHeard` is called
   * whenever anything came, if only a sign of life. One that says under which lease it listens tells the host of that lease, and ends when
   * the lease passes on.
   */
  events(onEvent: (event: HostEvent) => void, signal: AbortSignal, onHeard?: () => void, lease?: Lease): Promise<void>;
  /**
   * The raw serial log of a domain; with `follow` it goes on until the guest has left, `signal` is aborted or the stream is
   * destroyed. With `arrived` it begins with what the guest says on this host.
   */
  serial(id: string, options?: { follow?: boolean; arrived?: boolean; signal?: AbortSignal }): Readable;
  health(options?: RequestOptions): Promise<AgentHealth>;
  close(): Promise<void>;
}

/** A host as a step speaks to it. */
export interface HostInStep {
  /** As `HostConnection.call`; SUPERSEDED when a newer holder of the lease, or a newer try of the step, has spoken to the host. */
  call<N extends CallName>(name: N, input: Calls[N]['input'], options?: RequestOptions): Promise<Calls[N]['result']>;
  /**
   * Starts a task, or attaches to the running one with this id, and follows it to its end.
   *
   * Aborting `signal` cancels the task, waits for its end and throws the signal's reason; had it succeeded before, its result
   * is the answer.
   */
  runTask<N extends TaskName>(
    name: N,
    taskId: string,
    input: Tasks[N]['input'],
    options?: { signal?: AbortSignal; onProgress?: (percent: number) => void },
  ): Promise<Tasks[N]['result']>;
}

export const AGENT_SOCKET = '/run/belay/agent.sock';

const REQUEST_TIMEOUT_MS = 30_000;
const LONG_POLL_SECONDS = 20;
/** A cancelled task may have to take back what it did; migrations end within a second. */
const CANCEL_TIMEOUT_MS = 120_000;
const CALL_CHANNELS = 6;
const ATTACH_ATTEMPTS = 3;

type Connect = (target: HostTarget) => Promise<HostConnection>;

const otherWays = new Map<string, Connect>();

/** From now on this process reaches simulated hosts under `sim://<name>/…` in another way than by HTTP. */
export function reachSimulatedBy(name: string, connect: Connect): void {
  otherWays.set(name, connect);
}

/** @throws AgentError HOST_UNREACHABLE, or PRECONDITION_FAILED for another host key or a refused login. */
export async function connectHost(target: HostTarget): Promise<HostConnection> {
  if (!target.address.startsWith('sim://')) return connectReal(target);
  const connect = otherWays.get(new URL(target.address).hostname) ?? connectSimulated;
  return connect(target);
}

async function connectReal(target: HostTarget): Promise<HostConnection> {
  const ssh = await openSsh(target);
  const channelAgent = (maxSockets: number) => {
    const agent = new http.Agent({ keepAlive: true, maxSockets, maxFreeSockets: CALL_CHANNELS });
    const createConnection = (_options: unknown, done: (error: Error | null, socket?: Socket) => void) => {
      ssh.openSocket(AGENT_SOCKET).then((channel) => done(null, asSocket(channel)), done);
    };
    return Object.assign(agent, { createConnection });
  };
  const connection = overHttp({
    host: target.address,
    prefix: '',
    origin: { host: 'agent' },
    calls: channelAgent(CALL_CHANNELS),
    // Long polls, streams, and questions whose answer takes its time hold their channel: they must not use up those of the calls.
    streams: channelAgent(Number.POSITIVE_INFINITY),
  });
  let isOpen = true;
  const closed = ssh.closed.then((reason) => {
    isOpen = false;
    connection.destroy(reason);
    return reason;
  });
  return {
    ...connection,
    hostKey: ssh.hostKey,
    shell: ssh,
    closed,
    get isOpen() {
      return isOpen;
    },
    async close() {
      await ssh.end();
      await closed;
    },
  };
}

async function connectSimulated(target: HostTarget): Promise<HostConnection> {
  const url = new URL(target.address.replace(/^sim:/, 'http:'));
  const connection = overHttp({
    host: target.address,
    prefix: url.pathname.replace(/\/$/, ''),
    origin: { host: url.hostname, port: url.port },
    calls: simulatedCalls,
    streams: simulatedStreams,
  });
  await connection.health({ timeoutMs: target.connectTimeoutMs ?? 10_000 });
  let isOpen = true;
  let resolveClosed: (reason: undefined) => void = () => {};
  const closed = new Promise<undefined>((resolve) => {
    resolveClosed = resolve;
  });
  return {
    ...connection,
    hostKey: null,
    shell: null,
    closed,
    get isOpen() {
      return isOpen;
    },
    async close() {
      isOpen = false;
      connection.destroy(undefined);
      resolveClosed(undefined);
    },
  };
}

// One process plays tens of thousands of simulated hosts behind one port, so they share their sockets.
const simulatedCalls = new http.Agent({ keepAlive: true, maxSockets: 64, maxFreeSockets: 64 });
const simulatedStreams = new http.Agent({ keepAlive: true, maxFreeSockets: 64 });

/** An SSH channel is a duplex stream; `http` also wants the socket methods that make no sense on it. */
function asSocket(channel: NodeJS.ReadWriteStream): Socket {
  const noop = () => channel;
  return Object.assign(channel, {
    setKeepAlive: noop,
    setNoDelay: noop,
    setTimeout: noop,
    ref: noop,
    unref: noop,
  }) as unknown as Socket;
}

interface HttpPath {
  host: string;
  prefix: string;
  origin: { host: string; port?: string };
  calls: http.Agent;
  streams: http.Agent;
}

/** What goes along with a request: a step's whole stamp and until when it may be acted on, a listener's lease, or nothing. */
type Behalf = Partial<Stamp> & { until?: Moment };

/** What was heard of a host's clock is as good as new for so long: signs of life come more often. */
const FRESH_MS = 2_500;
/** A message may have waited for its channel, or its turn on the host, until it was too late: so often is it sent anew. */
const SENT_ANEW = 3;

type OverHttp = Pick<HostConnection, 'host' | 'call' | 'as' | 'events' | 'serial' | 'health'> & {
  /** Ends every request under way with `reason`. */
  destroy(reason: AgentError | undefined): void;
};

function overHttp(path: HttpPath): OverHttp {
  const { host } = path;
  const underWay = new Set<http.ClientRequest>();
  let gone: AgentError | undefined;
  /** What the host's clock said last, and when that was here. */
  let heard: { moment: Moment; at: number } | undefined;

  function hear(text: unknown): void {
    const moment = readMoment(String(text ?? ''));
    if (moment) heard = { moment, at: performance.now() };
  }

  const unreachable = (error: Error) =>
    error instanceof AgentError
      ? error
      : (gone ??
        new AgentError('HOST_UNREACHABLE', `the agent of ${host} does not answer: ${error.message}`, true, host));

  /** Sends the request and answers when the head of the response is there. */
  function open(
    agent: http.Agent,
    method: string,
    url: string,
    body: unknown,
    signal: AbortSignal | undefined,
    behalf: Behalf,
    isRetry = false,
  ): Promise<http.IncomingMessage> {
    return new Promise((resolve, reject) => {
      if (gone) return reject(gone);
      if (signal?.aborted) return reject(signal.reason);
      const text = body === undefined ? undefined : JSON.stringify(body);
      const request = http.request({
        ...path.origin,
        agent,
        method,
        path: path.prefix + url,
        headers: {
          ...(behalf.lease ? { [LEASE_HEADER]: leaseText(behalf.lease) } : {}),
          ...(behalf.step ? { [STEP_HEADER]: stepText(behalf.step) } : {}),
          ...(behalf.until ? { [UNTIL_HEADER]: momentText(behalf.until) } : {}),
          ...(text === undefined
            ? {}
            : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) }),
        },
      });
      underWay.add(request);
      const abort = () => {
        // A request that still waits for its channel, which a host that hangs never opens, hears of nothing: so tell at once.
        reject(signal?.reason);
        request.destroy();
      };
      signal?.addEventListener('abort', abort, { once: true });
      let answered = false;
      request.on('close', () => {
        underWay.delete(request);
        signal?.removeEventListener('abort', abort);
      });
      request.on('response', (response) => {
        answered = true;
        hear(response.headers[CLOCK_HEADER]);
        resolve(response);
      });
      request.on('error', (error: NodeJS.ErrnoException) => {
        if (answered) return;
        if (signal?.aborted) return;
        // A kept channel may have died unseen, for example when the agent restarted. Every request may arrive twice, so ask again.
        if (request.reusedSocket && !isRetry && !gone) {
          return open(agent, method, url, body, signal, behalf, true).then(resolve, reject);
        }
        reject(unreachable(error));
      });
      request.end(text);
    });
  }

  /** One exchange of JSON. */
  async function exchange<Answer>(
    agent: http.Agent,
    method: string,
    url: string,
    body: unknown,
    { signal, timeoutMs = REQUEST_TIMEOUT_MS }: RequestOptions,
    behalf: Behalf = {},
  ): Promise<Answer> {
    const timeout = new AbortController();
    const timer = setTimeout(() => timeout.abort(), timeoutMs);
    const either = signal ? AbortSignal.any([signal, timeout.signal]) : timeout.signal;
    try {
      const response = await open(agent, method, url, body, either, behalf);
      const text = await textOf(response).catch((error) => {
        throw either.aborted ? either.reason : unreachable(error);
      });
      return readAnswer(host, response.statusCode ?? 0, text) as Answer;
    } catch (error) {
      if (signal?.aborted) throw signal.reason;
      if (timeout.signal.aborted) {
        throw new AgentError('TIMEOUT', `${host} did not answer ${method} ${url} within ${timeoutMs} ms`, true, host);
      }
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  type Send = <Answer>(
    agent: http.Agent,
    method: string,
    url: string,
    body: unknown,
    options: RequestOptions,
  ) => Promise<Answer>;

  /** Sends what changes something for a try: never with a moment that is older than what `confirm` has said of it. */
  function sender(stamp: Stamp, confirm: () => Promise<void>): Send {
    let granted: { until: Moment | undefined; at: number } | undefined;
    let asking: Promise<void> | undefined;

    async function ask(): Promise<void> {
      if (!heard || performance.now() - heard.at > FRESH_MS)
        await exchange(path.calls, 'GET', '/v1/health', undefined, {});
      const { moment, at } = heard ?? { moment: undefined, at: performance.now() };
      await confirm();
      // An agent from before agents told of their clock is not told until when either.
      granted = { until: moment && { life: moment.life, ms: moment.ms + MESSAGE_SECONDS * 1_000 }, at };
    }

    return async (agent, method, url, body, options) => {
      for (let anew = 0; ; anew++) {
        if (!granted || performance.now() - granted.at > FRESH_MS) {
          asking ??= ask().finally(() => {
            asking = undefined;
          });
          // Whoever does not wait for it, because its own step is being cancelled, does not hear of its failure.
          asking.catch(() => {});
          await unlessAborted(asking, options.signal);
        }
        const until = granted?.until;
        try {
          return await exchange(agent, method, url, body, options, { ...stamp, ...(until ? { until } : {}) });
        } catch (error) {
          const isRefused = error instanceof AgentError && error.code === 'SUPERSEDED';
          const isLate = until && heard && (heard.moment.life !== until.life || heard.moment.ms > until.ms);
          if (!isRefused || !isLate || anew === SENT_ANEW) throw error;
          granted = undefined;
        }
      }
    };
  }

  /** What the agent of before has done may be why this one refuses, such as a guest that has left: whoever tries again looks first. */
  const lookFirst = (code: AgentError['code'], message: string): AgentError =>
    new AgentError(code, message, true, host);
  const again = (error: unknown): never => {
    throw error instanceof AgentError ? lookFirst(error.code, error.message) : error;
  };

  async function followTask<N extends TaskName>(
    name: N,
    taskId: string,
    input: Tasks[N]['input'],
    signal: AbortSignal | undefined,
    onProgress: ((percent: number) => void) | undefined,
    stamp: Stamp,
    send: Send,
  ): Promise<{ task: Task<N>; wasForgotten: boolean }> {
    const url = `/v1/tasks/${encodeURIComponent(taskId)}`;
    const options = signal ? { signal } : {};
    const start = () => send<Task<N>>(path.calls, 'PUT', url, { name, input }, options);
    let task = await start();
    let attempts = 1;
    let told = -1;
    while (task.state === 'running') {
      if (task.progress !== told) onProgress?.(task.progress);
      told = task.progress;
      try {
        const patience = { ...options, timeoutMs: (LONG_POLL_SECONDS + 15) * 1_000 };
        const looking = `${url}?waitSeconds=${LONG_POLL_SECONDS}`;
        task = await exchange<Task<N>>(path.streams, 'GET', looking, undefined, patience, stamp);
      } catch (error) {
        // An agent that restarted has forgotten its tasks; starting again is what their declarative nature is for.
        const forgotten = error instanceof AgentError && error.code === 'NOT_FOUND';
        if (!forgotten || attempts === ATTACH_ATTEMPTS) throw error;
        attempts += 1;
        task = await start().catch(again);
      }
    }
    return { task, wasForgotten: attempts > 1 };
  }

  async function runTask<N extends TaskName>(
    stamp: Stamp,
    send: Send,
    name: N,
    taskId: string,
    input: Tasks[N]['input'],
    { signal, onProgress }: { signal?: AbortSignal; onProgress?: (percent: number) => void },
  ): Promise<Tasks[N]['result']> {
    let task: Task<N>;
    let wasForgotten = false;
    try {
      ({ task, wasForgotten } = await followTask(name, taskId, input, signal, onProgress, stamp, send));
    } catch (error) {
      if (!signal?.aborted) throw error;
      const url = `/v1/tasks/${encodeURIComponent(taskId)}`;
      const cancelled = await send<Task<N>>(path.streams, 'DELETE', url, undefined, {
        timeoutMs: CANCEL_TIMEOUT_MS,
      }).catch((problem: unknown) => {
        if (problem instanceof AgentError && problem.code === 'NOT_FOUND') throw signal.reason;
        throw problem;
      });
      if (cancelled.state !== 'succeeded') throw signal.reason;
      task = cancelled;
    }
    if (task.state === 'succeeded') return task.result as Tasks[N]['result'];
    const { code, message, retryable } = task.problem ?? {
      code: 'INVALID_STATE' as const,
      message: `task ${taskId} (${name}) was cancelled by someone else`,
      retryable: false,
    };
    throw wasForgotten ? lookFirst(code, message) : new AgentError(code, message, retryable, host);
  }

  const wayOf = (name: CallName): http.Agent => (CALLS[name].watches ? path.streams : path.calls);

  return {
    host,

    call: (name, input, options) => exchange(wayOf(name), 'POST', `/v1/calls/${name}`, input, patience(name, options)),

    as(stamp, confirm) {
      const send = sender(stamp, confirm);
      return {
        call: (name, input, options) =>
          isQuestion(name)
            ? exchange(wayOf(name), 'POST', `/v1/calls/${name}`, input, patience(name, options), stamp)
            : send(path.calls, 'POST', `/v1/calls/${name}`, input, patience(name, options)),
        runTask: (name, taskId, input, options = {}) => runTask(stamp, send, name, taskId, input, options),
      };
    },

    async events(onEvent, signal, onHeard, lease) {
      if (signal.aborted) return;
      try {
        const response = await open(
          path.streams,
          'GET',
          '/v1/events?clock=true',
          undefined,
          signal,
          lease ? { lease } : {},
        );
        if (response.statusCode !== 200) readAnswer(host, response.statusCode ?? 0, await textOf(response));
        let rest = '';
        response.setEncoding('utf8');
        for await (const chunk of response) {
          onHeard?.();
          const lines = (rest + chunk).split('\n');
          rest = lines.pop() ?? '';
          for (const line of lines) {
            if (line === '') continue;
            const told = JSON.parse(line) as HostEvent | { clock: string };
            if ('clock' in told) hear(told.clock);
            else onEvent(told);
          }
        }
        throw new Error('the stream of events ended');
      } catch (error) {
        if (signal.aborted) return;
        throw unreachable(error as Error);
      }
    },

    serial(id, { follow = false, arrived = false, signal } = {}) {
      const output = new PassThrough();
      const url = `/v1/domains/${encodeURIComponent(id)}/serial?follow=${follow}&arrived=${arrived}`;
      open(path.streams, 'GET', url, undefined, signal, {})
        .then(async (response) => {
          if (response.statusCode !== 200) readAnswer(host, response.statusCode ?? 0, await textOf(response));
          output.on('close', () => response.destroy());
          response.on('error', (error) => {
            if (!output.destroyed) output.destroy(signal?.aborted ? undefined : unreachable(error));
          });
          response.pipe(output);
        })
        .catch((error) => output.destroy(signal?.aborted ? undefined : error));
      return output;
    },

    health: (options = {}) => exchange(path.calls, 'GET', '/v1/health', undefined, options),

    destroy(reason) {
      gone = reason ?? new AgentError('HOST_UNREACHABLE', `the connection to ${host} was closed`, true, host);
      for (const request of underWay) request.destroy(gone);
      if (path.calls !== simulatedCalls) path.calls.destroy();
      if (path.streams !== simulatedStreams) path.streams.destroy();
    },
  };
}

/** As long as the call may take, unless its caller says otherwise. */
const patience = (name: CallName, options: RequestOptions = {}): RequestOptions => ({
  timeoutMs: CALLS[name].timeoutMs,
  ...options,
});

/** Waits no longer than the caller wants to. */
async function unlessAborted(work: Promise<void>, signal: AbortSignal | undefined): Promise<void> {
  if (!signal) return work;
  signal.throwIfAborted();
  let abort = (): void => {};
  const aborted = new Promise<never>((_, reject) => {
    abort = () => reject(signal.reason);
    signal.addEventListener('abort', abort, { once: true });
  });
  try {
    await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener('abort', abort);
  }
}

async function textOf(response: http.IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString('utf8');
}

function readAnswer(host: string, status: number, text: string): unknown {
  let answer: unknown;
  try {
    answer = JSON.parse(text);
  } catch {
    throw new AgentError('INTERNAL', `${host} answered ${status} with something that is not JSON`, true, host);
  }
  if (status === 200) return answer;
  const problem = answer as Partial<AgentProblem>;
  throw new AgentError(
    problem.code ?? 'INTERNAL',
    problem.message ?? `${host} answered ${status}`,
    problem.retryable ?? status >= 500,
    host,
  );
}
