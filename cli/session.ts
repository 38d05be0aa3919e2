/** One run of the command line: the document, the configuration and the client, each made when it is first needed. */

import { answerOf, type BelayClient, connect, Refused, signalOf, Unreachable } from './client.ts';
import { type Configuration, type ConnectionFlags, configurationOf } from './configuration.ts';
import { type Document, type Method, type Resource, resourcesOf } from './document.ts';
import { Usage } from './exit-codes.ts';
import { painter, printableLines, type Terminal } from './terminal.ts';
import { filesOf, type ReadFiles } from './values.ts';

export interface Session {
  terminal: Terminal;
  document: Document;
  resources: Resource[];
  readFiles: ReadFiles;
  /** Set by the parsed command line before anything asks for the configuration. */
  flags: ConnectionFlags;
  configuration(): Configuration;
  client(): BelayClient;
  /** A line for the person, on standard error. */
  tell(text: string): void;
  warn(text: string): void;
}

export function openSession(terminal: Terminal, document: Document): Session {
  const paint = painter(terminal.stderr, terminal.env);
  let configuration: Configuration | undefined;
  let client: BelayClient | undefined;
  const session: Session = {
    terminal,
    document,
    resources: resourcesOf(document),
    readFiles: filesOf(terminal),
    flags: {},
    configuration() {
      configuration ??= configurationOf(session.flags, terminal.env, session);
      return configuration;
    },
    client() {
      const { url, token } = session.configuration();
      client ??= connect({ url, ...(token ? { token } : {}) });
      return client;
    },
    tell: (text) => void terminal.stderr.write(`${printableLines(text)}\n`),
    warn: (text) => void terminal.stderr.write(`${paint('yellow', 'warning:')} ${printableLines(text)}\n`),
  };
  return session;
}

export function resourceNamed(session: Session, kind: string): Resource {
  const found = session.resources.find((resource) => resource.kind === kind);
  if (!found) throw new Usage(`this command line knows no kind ${kind}; make it anew with: npm run generate`);
  return found;
}

export interface Call {
  method: Method;
  path: string;
  id?: string;
  query?: Record<string, unknown>;
  headers?: Record<string, string>;
  body?: unknown;
  signal?: AbortSignal;
}

/** The document is read at run time, so what the calls made from it take and answer is not known to the compiler. */
interface DynamicClient {
  request(
    method: Method,
    path: string,
    init: Record<string, unknown>,
  ): Promise<{ data?: unknown; error?: unknown; response: Response }>;
}

const attempts = 4;
const answerWithinMs = 90_000;

const wasCut = (error: unknown): boolean => {
  const cause = error instanceof Unreachable && error.cause instanceof Error ? error.cause.cause : undefined;
  return ['ECONNRESET', 'EPIPE', 'UND_ERR_SOCKET'].includes(String((cause as { code?: unknown } | undefined)?.code));
};

/**
 * Sends one call of the document. What the API turned away for its rate is sent again when it says so; what was cut off is sent
 * again where that is harmless: reads, and changes with an idempotency key.
 */
export async function send(session: Session, call: Call): Promise<{ status: number; data: unknown }> {
  const { method, path, id, query, headers, body } = call;
  const client = session.client() as unknown as DynamicClient;
  const repeatable = method === 'get' || headers?.['Idempotency-Key'] !== undefined;
  const signal = call.signal ?? session.terminal.signal;
  for (let attempt = 1; ; attempt++) {
    let status = 0;
    try {
      const answered = client
        .request(method, path, {
          params: { ...(id === undefined ? {} : { path: { id } }), ...(query ? { query } : {}) },
          ...(headers ? { headers } : {}),
          ...(body === undefined ? {} : { body }),
          signal: signalOf(signal, answerWithinMs),
        })
        .then((answer) => {
          status = answer.response.status;
          return answer;
        });
      const data = await answerOf(answered);
      return { status, data };
    } catch (error) {
      const limited = error instanceof Refused && error.problem.code === 'RATE_LIMITED';
      if (attempt >= attempts || !(limited || (repeatable && wasCut(error)))) throw error;
      const seconds = limited ? Math.min(error.problem.retryAfterSeconds ?? 1, 60) : 0.5;
      await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
      signal.throwIfAborted();
    }
  }
}
