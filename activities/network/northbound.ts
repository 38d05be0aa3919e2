/**
 * OVN's northbound database over OVSDB (RFC 7047), one transaction per step. Rows carry `belay:id`, `belay:kind` and
 * `belay:revision` in external_ids. Nothing here waits for hypervisors.
 */
import type { Socket } from 'node:net';
import { refuse, tryAgain } from '../failure.ts';
import { type OvsdbTls, ovsdbSocket } from './ovsdbSocket.ts';

export type Uuid = ['uuid', string] | ['named-uuid', string];
export type OvsdbRow = Record<string, unknown>;
export type Condition = [string, string, unknown];

export type OvsdbOperation =
  | { op: 'insert'; table: string; row: OvsdbRow; 'uuid-name'?: string }
  | { op: 'select'; table: string; where: Condition[]; columns?: string[] }
  | { op: 'update'; table: string; where: Condition[]; row: OvsdbRow }
  | { op: 'mutate'; table: string; where: Condition[]; mutations: [string, string, unknown][] }
  | { op: 'delete'; table: string; where: Condition[] }
  | {
      op: 'wait';
      table: string;
      where: Condition[];
      columns: string[];
      until: '==' | '!=';
      rows: OvsdbRow[];
      timeout: 0;
      /** What the operation's owner is told when it does not hold; OVN is not sent it. */
      otherwise?: string;
    }
  | { op: 'comment'; comment: string };

export interface OvsdbResult {
  rows?: OvsdbRow[];
  count?: number;
  uuid?: ['uuid', string];
  error?: string;
  details?: string;
}

export interface Northbound {
  /** All or nothing. Throws when any operation is refused. */
  transact(comment: string, operations: OvsdbOperation[]): Promise<OvsdbResult[]>;
  close(): void;
}

export const map = (value: Record<string, string>): unknown => ['map', Object.entries(value)];
export const set = (values: unknown[]): unknown => ['set', values];
/** Changes of a column of references: these leave it, and those come into it; none where nothing does. */
export const exchange = (column: string, leaving: unknown[], coming: unknown[]): [string, string, unknown][] => [
  ...(leaving.length > 0 ? [[column, 'delete', set(leaving)] satisfies [string, string, unknown]] : []),
  ...(coming.length > 0 ? [[column, 'insert', set(coming)] satisfies [string, string, unknown]] : []),
];
/** A set column with one value comes without its brackets. */
export const members = (value: unknown): unknown[] =>
  Array.isArray(value) && value[0] === 'set' ? (value[1] as unknown[]) : [value];
export const mapOf = (value: unknown): Record<string, string> =>
  Object.fromEntries(Array.isArray(value) && value[0] === 'map' ? (value[1] as [string, string][]) : []);

/** End of the first JSON object in `text`, or -1: OVSDB's messages follow each other without a separator. */
function objectEnd(text: string, from: { at: number; depth: number; quoted: boolean; escaped: boolean }): number {
  for (; from.at < text.length; from.at++) {
    const character = text[from.at];
    if (from.escaped) from.escaped = false;
    else if (from.quoted) {
      if (character === '\\') from.escaped = true;
      else if (character === '"') from.quoted = false;
    } else if (character === '"') from.quoted = true;
    else if (character === '{') from.depth++;
    else if (character === '}' && --from.depth === 0) return ++from.at;
  }
  return -1;
}

interface Waiting {
  resolve(result: OvsdbResult[]): void;
  reject(error: Error): void;
}

/** After so long a connection is made anew, so that none goes on for days with a certificate that was replaced. */
const channelLifetimeMs = 60 * 60 * 1000;

class Channel {
  readonly #socket: Socket;
  readonly #waiting = new Map<number, Waiting>();
  #next = 1;
  #buffer = '';
  #scan = { at: 0, depth: 0, quoted: false, escaped: false };
  readonly #openedAt = Date.now();
  open = true;

  constructor(remote: string, tls: OvsdbTls) {
    this.#socket = ovsdbSocket(remote, tls);
    this.#socket.setEncoding('utf8');
    this.#socket.on('data', (text: string) => this.#read(text));
    const gone = (error?: Error): void =>
      this.#fail(error ?? new Error('the northbound database closed the connection'));
    this.#socket.on('error', gone);
    this.#socket.on('close', () => gone());
  }

  #fail(error: Error): void {
    this.open = false;
    for (const waiting of this.#waiting.values()) waiting.reject(error);
    this.#waiting.clear();
    this.#socket.destroy();
  }

  #read(text: string): void {
    this.#buffer += text;
    for (;;) {
      const end = objectEnd(this.#buffer, this.#scan);
      if (end < 0) return;
      const message = JSON.parse(this.#buffer.slice(0, end)) as {
        id: number | string | null;
        method?: string;
        params?: unknown;
        result?: OvsdbResult[];
        error?: unknown;
      };
      this.#buffer = this.#buffer.slice(end);
      this.#scan = { at: 0, depth: 0, quoted: false, escaped: false };
      if (message.method === 'echo') {
        this.#socket.write(JSON.stringify({ id: message.id, result: message.params, error: null }));
        continue;
      }
      const waiting = this.#waiting.get(Number(message.id));
      this.#waiting.delete(Number(message.id));
      if (message.error) waiting?.reject(new Error(`OVSDB: ${JSON.stringify(message.error)}`));
      else waiting?.resolve(message.result ?? []);
    }
  }

  /** Whether it is to be replaced by a new one; it may be whenever nobody waits for an answer. */
  get isWorn(): boolean {
    return Date.now() - this.#openedAt > channelLifetimeMs && this.#waiting.size === 0;
  }

  request(method: string, params: unknown[]): Promise<OvsdbResult[]> {
    if (!this.open) return Promise.reject(new Error('the northbound database has closed the connection'));
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(
        () => this.#fail(new Error('the northbound database did not answer within 10 s')),
        10_000,
      );
      const done =
        <T>(settle: (value: T) => void) =>
        (value: T) => {
          clearTimeout(timer);
          settle(value);
        };
      this.#waiting.set(id, { resolve: done(resolve), reject: done(reject) });
      this.#socket.write(JSON.stringify({ id, method, params }));
    });
  }

  close(): void {
    this.#fail(new Error('closed'));
  }
}

const changes = ({ op }: OvsdbOperation): boolean => ['insert', 'update', 'mutate', 'delete'].includes(op);

/**
 * `remote`: one or more addresses, separated by commas; the next one is tried when one fails.
 *
 * `mayChange` is asked before anything is changed, and throws when whoever wants to has come too late. A process that is stopped right behind its
 * answer changes nothing when it goes on either: the database ends a session that gives no sign of life, and nothing is sent over another one.
 */
export function openNorthbound(
  remote: string,
  tls: OvsdbTls = null,
  mayChange: () => Promise<void> = async () => {},
): Northbound {
  const remotes = remote.split(',').filter(Boolean);
  let turn = 0;
  let channel: Channel | undefined;
  return {
    async transact(comment, operations) {
      const address = remotes[turn % remotes.length];
      if (!address)
        throw tryAgain('BACKEND_UNAVAILABLE', "BELAY_OVN_NORTHBOUND names no address of OVN's northbound database");
      if (channel?.isWorn) channel.close();
      if (!channel?.open) channel = new Channel(address, tls);
      const session = channel;
      if (operations.some(changes)) await mayChange();
      const sent = operations.map((operation) => {
        if (operation.op !== 'wait') return operation;
        const { otherwise: _, ...wait } = operation;
        return wait;
      });
      const whole: OvsdbOperation[] = [...sent, { op: 'comment', comment: `belay ${comment}` }];
      let results: OvsdbResult[];
      try {
        results = await session.request('transact', ['OVN_Northbound', ...whole]);
      } catch (error) {
        turn++;
        throw tryAgain(
          'BACKEND_UNAVAILABLE',
          `OVN northbound ${address}: ${error instanceof Error ? error.message : String(error)}`,
        );
      }
      const at = results.findIndex((result) => result?.error);
      const refused = results[at];
      const asked = operations[at];
      if (refused && asked?.op === 'wait' && asked.otherwise) throw refuse('PRECONDITION_FAILED', asked.otherwise);
      if (refused)
        throw tryAgain('BACKEND_UNAVAILABLE', `OVN refused "${comment}": ${refused.error} ${refused.details ?? ''}`);
      return results;
    },
    close: () => channel?.close(),
  };
}

/** What leads a row back to its record. */
export const rowTags = (kind: string, id: string, more: Record<string, string> = {}): unknown =>
  map({ 'belay:id': id, 'belay:kind': kind, 'belay:revision': '1', ...more });
/** Where clause for the rows of a record. */
export const taggedWith = (kind: string, id: string): Condition[] => [
  ['external_ids', 'includes', map({ 'belay:id': id, 'belay:kind': kind })],
];

/** Lets a transaction go through only while no such row exists: names of most tables are not unique by themselves. */
export const absent = (table: string, where: Condition[]): OvsdbOperation => ({
  op: 'wait',
  table,
  where,
  columns: ['_uuid'],
  until: '==',
  rows: [],
  timeout: 0,
});

/**
 * Lets a transaction go through only while such a row exists. A mutation or update that meets no row changes nothing and is no error to
 * OVSDB; whoever needs it to have an effect says so with this, in the same transaction. `otherwise` says what is missing.
 */
export const present = (table: string, where: Condition[], otherwise: string): OvsdbOperation => ({
  op: 'wait',
  table,
  where,
  columns: ['_uuid'],
  until: '!=',
  rows: [],
  timeout: 0,
  otherwise,
});
