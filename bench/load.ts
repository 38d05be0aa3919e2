/**
 * Makes load in a process of its own, so that what is measured shares no event loop with what measures: HTTP/1.1 over kept
 * connections, one request at a time on each (no pipelining), or prepared statements over one PostgreSQL connection each.
 */
import { connect, type Socket } from 'node:net';
import pg from 'pg';

export interface HttpLoad {
  kind: 'http';
  port: number;
  /** Whole requests, head and body, sent in turn. */
  requests: string[];
  connections: number;
  /** Ends after so many answers, or after so long. */
  limit: { answers: number } | { seconds: number };
}

export interface SqlLoad {
  kind: 'sql';
  url: string;
  statements: { text: string; values: unknown[]; name: string }[];
  answers: number;
}

export interface Load {
  seconds: number;
  /** Of each answer, in the order they came. */
  milliseconds: number[];
  /** Status of the answer → how many; SQL answers count as 200. */
  statuses: Record<string, number>;
  /** Body of the last answer that was no 2xx. */
  refusal: string | null;
}

interface Tally {
  milliseconds: number[];
  statuses: Record<string, number>;
  refusal: string | null;
}

/** Sends on one connection what `next` answers until that is undefined. */
function follow(port: number, next: () => Buffer | undefined, tally: Tally): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket: Socket = connect({ host: '127.0.0.1', port, noDelay: true });
    let pending: Buffer = Buffer.alloc(0);
    let sentAt = 0;
    const send = (): void => {
      const request = next();
      if (request === undefined) {
        socket.end();
        resolve();
        return;
      }
      sentAt = performance.now();
      socket.write(request);
    };
    socket.on('data', (chunk: Buffer) => {
      pending = pending.length === 0 ? chunk : Buffer.concat([pending, chunk]);
      const headEnd = pending.indexOf('\r\n\r\n');
      if (headEnd < 0) return;
      const head = pending.toString('latin1', 0, headEnd);
      const length = /\r\ncontent-length: (\d+)/i.exec(head)?.[1];
      if (length === undefined) return void socket.destroy(new Error(`an answer without a length: ${head}`));
      if (pending.length < headEnd + 4 + Number(length)) return;
      const status = head.slice(9, 12);
      tally.milliseconds.push(performance.now() - sentAt);
      tally.statuses[status] = (tally.statuses[status] ?? 0) + 1;
      if (!status.startsWith('2')) tally.refusal = pending.toString('utf8', headEnd + 4);
      pending = Buffer.alloc(0);
      send();
    });
    socket.once('connect', send);
    socket.once('error', reject);
    socket.once('close', () => reject(new Error('the server closed the connection')));
  });
}

async function http({ port, requests, connections, limit }: HttpLoad): Promise<Load> {
  const buffers = requests.map((request) => Buffer.from(request));
  const tally: Tally = { milliseconds: [], statuses: {}, refusal: null };
  const started = performance.now();
  const end = 'seconds' in limit ? started + limit.seconds * 1000 : Number.POSITIVE_INFINITY;
  const answers = 'answers' in limit ? limit.answers : Number.POSITIVE_INFINITY;
  let sent = 0;
  const next = (): Buffer | undefined =>
    sent >= answers || performance.now() >= end ? undefined : buffers[sent++ % buffers.length];
  await Promise.all(Array.from({ length: connections }, () => follow(port, next, tally)));
  return { seconds: (performance.now() - started) / 1000, ...tally };
}

async function sql({ url, statements, answers }: SqlLoad): Promise<Load> {
  const client = new pg.Client({ connectionString: url, options: '-c timezone=UTC' });
  await client.connect();
  const milliseconds: number[] = [];
  try {
    const started = performance.now();
    for (let sent = 0; sent < answers; sent++) {
      const statement = statements[sent % statements.length];
      if (!statement) break;
      const sentAt = performance.now();
      await client.query(statement);
      milliseconds.push(performance.now() - sentAt);
    }
    return { seconds: (performance.now() - started) / 1000, milliseconds, statuses: { 200: answers }, refusal: null };
  } finally {
    await client.end();
  }
}

process.on('message', (load: HttpLoad | SqlLoad) => {
  (load.kind === 'http' ? http(load) : sql(load)).then(
    (result) => process.send?.({ result }),
    (error: unknown) => process.send?.({ error: error instanceof Error ? error.message : String(error) }),
  );
});
