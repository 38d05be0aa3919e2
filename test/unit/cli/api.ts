/**
 * An API that holds to the document: it refuses what the document does not allow, and filters that the real one would refuse, keeps what is created in memory, and plays
 * operations as scripted. And the command line, run against it.
 */
import { randomUUID } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Readable, Writable } from 'node:stream';
import { Ajv2020 } from 'ajv/dist/2020.js';
import formats from 'ajv-formats';
import { openApiDocument } from '../../../api/openapi.ts';
import { compileFilter } from '../../../api/query/compile.ts';
import { parseFilter } from '../../../api/query/filter.ts';
import { type Document, dereference, type Method, resourcesOf } from '../../../cli/document.ts';
import { run } from '../../../cli/main.ts';
import type { Output, Terminal } from '../../../cli/terminal.ts';
import { allKinds } from '../../../model/kinds.ts';

export const document = JSON.parse(JSON.stringify(openApiDocument())) as Document;
export const token = 'belay_0123456789abcdef0123_a-secret-nobody-may-see';

const ajv = new Ajv2020({ allErrors: true, strict: false });
(formats as unknown as (on: Ajv2020) => void)(ajv);
ajv.addSchema({ $id: 'document', components: document.components });

type Row = Record<string, unknown>;

export interface Request {
  method: string;
  path: string;
  query: Record<string, string>;
  headers: IncomingMessage['headers'];
  body: unknown;
  bytes: Buffer;
}

/** Answers a request in another way than usual, or leaves it (undefined). */
type Handler = (request: Request, response: ServerResponse) => Promise<unknown> | unknown;

export interface Api {
  url: string;
  requests: Request[];
  /** What did not hold to the document. */
  faults: string[];
  /** Resources by plural. */
  rows: Map<string, Row[]>;
  add(plural: string, row: Row): Row;
  /** What `GET` tells of the next operations, one after another; the last stays. */
  script: Row[];
  handle(route: string, handler: Handler): void;
  close(): Promise<void>;
}

export const problem = (status: number, code: string, detail: string, more: Row = {}): Row => ({
  $status: status,
  type: `/problems/${code}`,
  title: code,
  status,
  detail,
  code,
  requestId: 'request-1',
  ...more,
});

const later = '2026-01-02T03:04:06.500000Z';

/** What the real API would say against a filter; null when it takes it. */
function faultOfFilter(plural: string, text: string | undefined): string | null {
  const kind = allKinds.find((one) => one.plural === plural);
  if (!kind || text === undefined) return null;
  try {
    const expression = parseFilter(text);
    if (expression) compileFilter(kind, expression);
    return null;
  } catch (error) {
    return `filter: ${(error as Error).message}`;
  }
}

/** The route of the document that a path takes, with the id in it. */
function routeOf(path: string): { template: string; id: string | undefined } | null {
  for (const template of Object.keys(document.paths)) {
    const match = new RegExp(`^${template.replace('{id}', '([^/]+)')}$`).exec(path);
    if (match) return { template, id: match[1] };
  }
  return null;
}

export async function startApi(): Promise<Api> {
  const handlers = new Map<string, Handler>();
  const api: Api = {
    url: '',
    requests: [],
    faults: [],
    rows: new Map(),
    script: [],
    add(plural, row) {
      const whole = { id: randomUUID(), revision: 1, createdAt: '2026-01-02T03:04:05.000000Z', ...row };
      api.rows.set(plural, [...(api.rows.get(plural) ?? []), whole]);
      return whole;
    },
    handle: (route, handler) => void handlers.set(route, handler),
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };

  const check = (request: Request, template: string): string | null => {
    const item = document.paths[template];
    const route = item?.[request.method.toLowerCase() as Method];
    if (!route) return `no ${request.method} ${template}`;
    const known = (route.parameters ?? []).filter((parameter) => parameter.in === 'query').map(({ name }) => name);
    const unknown = Object.keys(request.query).filter((name) => !known.includes(name));
    if (unknown.length > 0) return `no parameter ${unknown.join(', ')}`;
    const wrong = faultOfFilter(template.split('/')[2] ?? '', request.query.filter);
    if (wrong) return wrong;
    const type = String(request.headers['content-type'] ?? '');
    const content = route.requestBody?.content[type];
    if (request.bytes.length > 0 && !content) return `no body of type ${type}`;
    if (!content || type === 'application/octet-stream') return null;
    const schema = dereference(document, content.schema);
    if (request.bytes.length === 0 && (schema.required ?? []).length > 0) return 'a body is needed';
    if (request.bytes.length > 0 && !ajv.validate(schema, request.body)) return ajv.errorsText();
    return null;
  };

  const list = (plural: string, { filter, pageSize = '50', pageToken = '0', count, fields }: Row): Row => {
    // Only the comparisons that these tests write.
    const alternatives = String(filter ?? '')
      .split(' OR ')
      .map((text) => [...text.matchAll(/(\w+) = "((?:[^"\\]|\\.)*)"/g)]);
    const found = (api.rows.get(plural) ?? []).filter((row) =>
      alternatives.some((conditions) =>
        conditions.every(([, name = '', value = '']) => row[name] === value.replace(/\\(.)/g, '$1')),
      ),
    );
    const from = Number(pageToken);
    const to = from + Number(pageSize);
    const names = typeof fields === 'string' ? ['id', ...fields.split(',')] : null;
    const items = found
      .slice(from, to)
      .map((row) => (names ? Object.fromEntries(Object.entries(row).filter(([name]) => names.includes(name))) : row));
    return {
      items,
      nextPageToken: to < found.length ? String(to) : null,
      ...(count === 'exact' ? { count: found.length } : {}),
    };
  };

  const operation = (type: string, targetKind: string, targetId: unknown): Row =>
    api.add('operations', { type, targetKind, targetId, state: 'queued', steps: [], progress: 0 });

  const answer = (request: Request, template: string, id: string | undefined): Row => {
    const plural = template.split('/')[2] ?? '';
    const kind = resourcesOf(document).find((resource) => resource.plural === plural)?.kind ?? '';
    const route = document.paths[template]?.[request.method.toLowerCase() as Method];
    const rows = api.rows.get(plural) ?? [];
    const row = rows.find((candidate) => candidate.id === id);
    if (id && !row) return problem(404, 'NOT_FOUND', `there is no ${kind} ${id}`);
    if (request.query.dryRun === 'true')
      return {
        steps: [{ name: 'hypervisor.boot', system: 'libvirt', undo: 'force off' }],
        locks: [],
        quotaDelta: { instances: 1 },
        warnings: [],
      };
    if (template.endsWith('/{id}') && request.method === 'GET') {
      const next = kind === 'operation' ? api.script.shift() : undefined;
      if (row && next) Object.assign(row, next);
      return row ?? {};
    }
    if (request.method === 'GET') return list(plural, request.query);
    const verb = template.split('/').at(-1);
    if (template === `/v1/${plural}`) {
      const made = api.add(plural, { state: 'creating', ...(request.body as Row) });
      return route?.responses['202']
        ? { $status: 202, ...operation(`${kind}.create`, kind, made.id) }
        : { $status: 201, ...made };
    }
    if (request.method === 'DELETE') {
      api.rows.set(
        plural,
        rows.filter((candidate) => candidate !== row),
      );
      const whole = request.query.cascade === 'true' || request.query.expunge === 'true';
      // A record is gone at once, unless with all that hangs on it.
      return route?.responses['204'] && !whole
        ? { $status: 204 }
        : { $status: 202, ...operation(`${kind}.${whole ? 'cascade' : 'delete'}`, kind, id) };
    }
    if (request.method === 'PATCH') {
      const patched = Object.assign(row ?? {}, request.body);
      return route?.responses['202'] ? { $status: 202, ...operation(`${kind}.update`, kind, id) } : patched;
    }
    return route?.responses['202'] ? { $status: 202, ...operation(`${kind}.${verb}`, kind, id) } : (row ?? {});
  };

  const server = createServer(async (incoming, response) => {
    const url = new URL(incoming.url ?? '/', 'http://localhost');
    const chunks: Buffer[] = [];
    const route = routeOf(url.pathname);
    const handler = route && handlers.get(`${incoming.method} ${route.template}`);
    for await (const chunk of incoming) chunks.push(chunk as Buffer);
    const bytes = Buffer.concat(chunks);
    const isJson = String(incoming.headers['content-type'] ?? '').includes('json') && bytes.length > 0;
    const request: Request = {
      method: incoming.method ?? '',
      path: url.pathname,
      query: Object.fromEntries(url.searchParams),
      headers: incoming.headers,
      body: isJson ? JSON.parse(bytes.toString('utf8')) : undefined,
      bytes,
    };
    api.requests.push(request);
    const fault = route ? check(request, route.template) : `no path ${url.pathname}`;
    if (fault) api.faults.push(`${request.method} ${request.path}: ${fault}`);
    const special = await handler?.(request, response);
    if (response.headersSent || response.destroyed) return;
    const body: Row =
      (special as Row | undefined) ??
      (fault
        ? problem(422, 'INVALID_ARGUMENT', fault)
        : request.headers.authorization !== `Bearer ${token}`
          ? problem(401, 'UNAUTHENTICATED', 'no valid credential')
          : answer(request, route?.template ?? '', route?.id));
    const { $status = 200, ...told } = body;
    const status = Number($status);
    response.writeHead(status, { 'content-type': status < 400 ? 'application/json' : 'application/problem+json' });
    response.end(status === 204 ? undefined : JSON.stringify(told));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  api.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return api;
}

export const step = (name: string, state: string, more: Row = {}): Row => ({
  name,
  state,
  attempts: 1,
  startedAt: '2026-01-02T03:04:05.000Z',
  endedAt: state === 'running' ? null : '2026-01-02T03:04:05.400Z',
  error: null,
  ...more,
});

export const succeeded = (...steps: Row[]): Row => ({ state: 'succeeded', steps, endedAt: later });

export interface Ran {
  code: number;
  out: string;
  err: string;
}

export interface RunOptions {
  stdin?: string;
  isTTY?: boolean;
  env?: Record<string, string>;
  signal?: AbortSignal;
  /** Hears what is printed, as it is. */
  onOutput?: (text: string) => void;
}

function collect(isTTY: boolean, hear: (text: string) => void): { output: Output; text: () => string } {
  let text = '';
  const output: Output = new Writable({
    write(chunk: Buffer, _, done) {
      text += chunk.toString('utf8');
      hear(chunk.toString('utf8'));
      done();
    },
  });
  output.isTTY = isTTY;
  output.columns = 100;
  return { output, text: () => text };
}

/** Runs one command line in this process, with nothing of its environment. */
export async function belay(api: Pick<Api, 'url'>, words: readonly string[], options: RunOptions = {}): Promise<Ran> {
  const hear = options.onOutput ?? (() => {});
  const out = collect(options.isTTY ?? false, hear);
  const err = collect(options.isTTY ?? false, hear);
  const terminal: Partial<Terminal> = {
    stdin: Readable.from(options.stdin === undefined ? [] : [Buffer.from(options.stdin)]),
    readInput: () => options.stdin ?? '',
    stdout: out.output,
    stderr: err.output,
    env: { BELAY_CONFIG: '/nonexistent/belay.json', BELAY_URL: api.url, BELAY_TOKEN: token, ...options.env },
    ...(options.signal ? { signal: options.signal } : {}),
  };
  const code = await run(words, terminal, document);
  return { code, out: out.text(), err: err.text() };
}
