import net from 'node:net';
import { Problem } from '../problem.ts';

/** OVSDB (RFC 7047) with the host's own switch: JSON-RPC on a unix socket. */
export interface Ovsdb {
  /** One transaction; answers the result of each operation. */
  transact(operations: Operation[]): Promise<OperationResult[]>;
  isConnected(): boolean;
  close(): void;
}

export type Operation = Record<string, unknown> & { op: string };

export interface OperationResult {
  rows?: Record<string, unknown>[];
  count?: number;
  error?: string;
  details?: string;
}

const DATABASE = 'Open_vSwitch';
const TIMEOUT_MS = 10_000;

/** Messages are not framed: cuts the stream where each top-level object ends. */
export function jsonStreamDecoder(onMessage: (message: unknown) => void): (chunk: string) => void {
  let buffer = '';
  let position = 0;
  let depth = 0;
  let inString = false;
  let escaped = false;
  return (chunk) => {
    buffer += chunk;
    let start = 0;
    for (; position < buffer.length; position += 1) {
      const character = buffer[position];
      if (inString) {
        if (escaped) escaped = false;
        else if (character === '\\') escaped = true;
        else if (character === '"') inString = false;
      } else if (character === '"') inString = true;
      else if (character === '{') depth += 1;
      else if (character === '}') {
        depth -= 1;
        if (depth === 0) {
          onMessage(JSON.parse(buffer.slice(start, position + 1)));
          start = position + 1;
        }
      }
    }
    buffer = buffer.slice(start);
    position = buffer.length;
  };
}

/** Reads a map column: `["map", [["key", "value"], …]]`. */
export function readMap(column: unknown): Record<string, string> {
  return Array.isArray(column) && column[0] === 'map' ? Object.fromEntries(column[1] as [string, string][]) : {};
}

export function writeMap(map: Record<string, string>): unknown {
  return ['map', Object.entries(map)];
}

interface Message {
  id?: unknown;
  method?: string;
  params?: unknown;
  result?: unknown;
  error?: unknown;
}

export function ovsdb(socketPath: string): Ovsdb {
  let socket: net.Socket | undefined;
  let serial = 0;
  const waiting = new Map<unknown, { resolve: (result: unknown) => void; reject: (error: Error) => void }>();

  const unavailable = (why: string) =>
    new Problem('BACKEND_UNAVAILABLE', `Open vSwitch does not answer at ${socketPath}: ${why}`, true);

  function connect(): net.Socket {
    const made = net.connect(socketPath);
    made.setEncoding('utf8');
    const decode = jsonStreamDecoder((raw) => {
      const message = raw as Message;
      // The server ends a connection that leaves its probes unanswered.
      if (message.method === 'echo') {
        made.write(JSON.stringify({ id: message.id, result: message.params, error: null }));
        return;
      }
      const caller = waiting.get(message.id);
      waiting.delete(message.id);
      if (message.error) caller?.reject(unavailable(JSON.stringify(message.error)));
      else caller?.resolve(message.result);
    });
    made.on('data', (chunk) => decode(String(chunk)));
    let why = 'the connection was lost';
    made.on('error', (error) => {
      why = error.message;
    });
    made.on('close', () => {
      if (socket === made) socket = undefined;
      for (const caller of waiting.values()) caller.reject(unavailable(why));
      waiting.clear();
    });
    return made;
  }

  function request(method: string, params: unknown[]): Promise<unknown> {
    return new Promise((resolve, reject) => {
      socket ??= connect();
      serial += 1;
      const id = serial;
      const timer = setTimeout(() => {
        waiting.delete(id);
        reject(unavailable(`no answer within ${TIMEOUT_MS} ms`));
      }, TIMEOUT_MS);
      const settled = <Value>(settle: (value: Value) => void) => {
        return (value: Value) => {
          clearTimeout(timer);
          settle(value);
        };
      };
      waiting.set(id, { resolve: settled(resolve), reject: settled(reject) });
      socket.write(JSON.stringify({ method, params, id }));
    });
  }

  return {
    isConnected: () => socket !== undefined && !socket.connecting,
    async transact(operations) {
      const results = (await request('transact', [DATABASE, ...operations])) as OperationResult[];
      // A failed operation is reported among the results, and one more result is added when the commit failed.
      const failed = results.find((result) => result?.error);
      if (failed)
        throw new Problem('BACKEND_UNAVAILABLE', `Open vSwitch: ${failed.error}: ${failed.details ?? ''}`, true);
      return results;
    },
    close: () => socket?.destroy(),
  };
}
