/** A typed client of the REST API: what the command line and the tests speak through. */
import createClient, { type Client } from 'openapi-fetch';
import type { components, paths } from '../generated/api.ts';

export type Schemas = components['schemas'];
export type Operation = Schemas['Operation'];
export type ProblemDocument = Schemas['Problem'] & Record<string, unknown>;

export interface Connection {
  /** Where the API is, without `/v1`. */
  url: string;
  token?: string;
  /** Instead of Node's own. */
  fetch?: typeof globalThis.fetch;
}

export type BelayClient = Client<paths> & { readonly connection: Connection };

/** The API said no. */
export class Refused extends Error {
  readonly status: number;
  readonly problem: ProblemDocument;

  constructor(status: number, problem: ProblemDocument) {
    super(problem.detail);
    this.name = 'Refused';
    this.status = status;
    this.problem = problem;
  }
}

/** Nothing answered, or what answered is not the API. */
export class Unreachable extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'Unreachable';
  }
}

/** The operation goes on, but nobody waits for it any longer. */
export class TimedOut extends Error {
  /** As it was last seen; null when it never was. */
  readonly operation: Operation | null;

  constructor(message: string, operation: Operation | null) {
    super(message);
    this.name = 'TimedOut';
    this.operation = operation;
  }
}

const isAbort = (error: unknown): boolean => error instanceof Error && error.name === 'AbortError';

/** The reason below `fetch failed`: `ECONNREFUSED`, a name that does not resolve, a certificate. */
function reasonOf(error: unknown): string {
  const cause = error instanceof Error ? (error.cause ?? error) : error;
  const first: unknown = cause instanceof AggregateError ? (cause.errors[0] ?? cause) : cause;
  return first instanceof Error && first.message ? first.message : String(first);
}

/** Answers a client; nothing is sent before its first call. */
export function connect(connection: Connection): BelayClient {
  const { url, token } = connection;
  const send = connection.fetch ?? globalThis.fetch;
  const reach = async (request: Request): Promise<Response> => {
    try {
      return await send(request);
    } catch (error) {
      if (isAbort(error)) throw error;
      if (error instanceof Error && error.name === 'TimeoutError')
        throw new Unreachable(`${url} did not answer in time`, { cause: error });
      throw new Unreachable(`${url} can not be reached: ${reasonOf(error)}`, { cause: error });
    }
  };
  const client = createClient<paths>({
    baseUrl: url,
    fetch: reach,
    ...(token ? { headers: { Authorization: `Bearer ${token}` } } : {}),
  });
  return Object.assign(client, { connection });
}

interface Answer<T> {
  data?: T;
  error?: unknown;
  response: Response;
}

const isProblem = (error: unknown): error is ProblemDocument =>
  error !== null && typeof error === 'object' && 'code' in error && 'detail' in error;

/** The data of a call. Throws Refused with the problem document, or Unreachable when what answered is not the API. */
export async function answerOf<T>(call: Promise<Answer<T>>): Promise<T> {
  let answer: Answer<T>;
  try {
    answer = await call;
  } catch (error) {
    if (error instanceof SyntaxError) throw new Unreachable('the answer is no JSON; is this the address of the API?');
    if (error instanceof Error && error.name === 'TimeoutError')
      throw new Unreachable('the API stopped answering in the middle of its answer', { cause: error });
    // The connection was cut while the body came.
    if (error instanceof TypeError)
      throw new Unreachable(`the answer was cut off: ${reasonOf(error)}`, { cause: error });
    throw error;
  }
  const { data, error, response } = answer;
  if (response.ok) return data as T;
  if (isProblem(error)) throw new Refused(response.status, error);
  throw new Unreachable(`${response.url} answered ${response.status} ${response.statusText} without saying why`.trim());
}

/** Ends of an operation; `stuck` is one for who waits, since only a person can end it. */
const ended: readonly string[] = ['succeeded', 'failed', 'cancelled', 'stuck'];

export const hasEnded = (operation: Operation): boolean => ended.includes(operation.state ?? '');

/** Between attempts while the API does not answer. */
const pauseMs = 500;
/** How long an API that went away may take to come back before the wait is given up. */
const absenceSeconds = 60;
const longestWaitSeconds = 30;

const later = (milliseconds: number, signal?: AbortSignal): Promise<void> =>
  new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason as Error);
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', cut);
      resolve();
    }, milliseconds);
    const cut = (): void => {
      clearTimeout(timer);
      reject(signal?.reason as Error);
    };
    signal?.addEventListener('abort', cut, { once: true });
  });

/** How long to pause before the same read is worth another attempt; null when it never is. */
function pauseAfter(error: unknown): number | null {
  if (error instanceof Unreachable) return pauseMs;
  if (error instanceof Refused && [429, 502, 503, 504].includes(error.status))
    return Math.min((error.problem.retryAfterSeconds ?? 1) * 1000, 10_000);
  return null;
}

export interface WaitOptions {
  /** Unlimited when not given. */
  timeoutSeconds?: number;
  signal?: AbortSignal;
}

/**
 * Follows an operation until it is succeeded, failed, cancelled or stuck, and answers it; that it failed is no error here.
 * Bears that the API goes away for up to a minute. With `onChange` it looks every second and tells what has changed.
 * Throws TimedOut, Refused (as NOT_FOUND), Unreachable.
 */
export async function waitOperation(
  client: BelayClient,
  id: string,
  onChange?: (operation: Operation) => void | Promise<void>,
  { timeoutSeconds, signal }: WaitOptions = {},
): Promise<Operation> {
  const until = timeoutSeconds === undefined ? Number.POSITIVE_INFINITY : Date.now() + timeoutSeconds * 1000;
  let last: Operation | null = null;
  let answeredAt = Date.now();
  for (;;) {
    const left = until - Date.now();
    const patience = onChange ? (last ? 1 : 0) : longestWaitSeconds;
    const waitSeconds = Math.max(0, Math.min(patience, Math.floor(left / 1000)));
    try {
      const operation: Operation = await answerOf(
        client.GET('/v1/operations/{id}', {
          params: { path: { id }, query: { waitSeconds } },
          signal: signalOf(signal, (waitSeconds + 30) * 1000),
        }),
      );
      // Steps are told without a new revision.
      if (JSON.stringify(operation) !== JSON.stringify(last)) await onChange?.(operation);
      last = operation;
      answeredAt = Date.now();
      if (hasEnded(operation)) return operation;
    } catch (error) {
      const pause = pauseAfter(error);
      if (pause === null || Date.now() - answeredAt > absenceSeconds * 1000) throw error;
      await later(Math.max(0, Math.min(pause, until - Date.now())), signal);
    }
    if (Date.now() >= until)
      throw new TimedOut(`operation ${id} has not ended after ${timeoutSeconds} seconds; it goes on`, last);
    // With less than a second left the server answers at once.
    if (waitSeconds === 0 && last) await later(Math.min(200, Math.max(0, until - Date.now())), signal);
  }
}

/** Ends with the given signal, or after so many milliseconds as Unreachable. */
export const signalOf = (signal: AbortSignal | undefined, milliseconds: number): AbortSignal =>
  signal ? AbortSignal.any([signal, AbortSignal.timeout(milliseconds)]) : AbortSignal.timeout(milliseconds);

export interface FollowedEvent {
  /** Where to go on: the `lastEventId` of a later call. */
  id: string;
  type: string;
  event: Schemas['Event'];
}

export interface FollowOptions {
  filter?: string;
  lastEventId?: string;
  signal?: AbortSignal;
}

/**
 * Events as they happen, until the signal ends it. After a cut it connects anew and goes on behind the last one told.
 * Throws Refused, and Unreachable when the first connection fails.
 */
export async function* followEvents(
  client: BelayClient,
  { filter, lastEventId, signal }: FollowOptions = {},
): AsyncGenerator<FollowedEvent> {
  let last = lastEventId;
  let connected = false;
  while (!signal?.aborted) {
    try {
      const stream = await answerOf(
        client.GET('/v1/events', {
          params: { query: { follow: 'true', ...(filter ? { filter } : {}) } },
          headers: { Accept: 'text/event-stream', ...(last ? { 'Last-Event-ID': last } : {}) },
          parseAs: 'stream',
          ...(signal ? { signal } : {}),
        }),
      );
      connected = true;
      for await (const message of messagesOf(stream as unknown as AsyncIterable<Uint8Array>)) {
        last = message.id;
        yield { id: message.id, type: message.type, event: JSON.parse(message.data) as Schemas['Event'] };
      }
    } catch (error) {
      if (signal?.aborted) return;
      if (!connected || (error instanceof Refused && pauseAfter(error) === null)) throw error;
    }
    await later(pauseMs, signal).catch(() => {});
  }
}

interface Message {
  id: string;
  type: string;
  data: string;
}

/** The messages of an event stream (WHATWG HTML, 9.2.6); comments that keep it alive are left out. */
async function* messagesOf(stream: AsyncIterable<Uint8Array>): AsyncGenerator<Message> {
  const decoder = new TextDecoder();
  let text = '';
  let message: Message = { id: '', type: 'message', data: '' };
  for await (const chunk of stream) {
    text += decoder.decode(chunk, { stream: true });
    const lines = text.split(/\r\n|\n|\r(?!$)/);
    text = lines.pop() ?? '';
    for (const line of lines) {
      if (line === '') {
        if (message.data !== '') yield message;
        message = { id: message.id, type: 'message', data: '' };
        continue;
      }
      const [, name, value = ''] = /^([^:]*)(?:: ?(.*))?$/.exec(line) ?? [];
      if (name === 'id') message.id = value;
      else if (name === 'event') message.type = value;
      else if (name === 'data') message.data += (message.data === '' ? '' : '\n') + value;
    }
  }
}
