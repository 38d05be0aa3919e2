/** The HTTP surface: routes made from the model, one way for every read and every change. */
import { randomUUID } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import Router, { type RouterContext } from '@koa/router';
import type { Client as TemporalClient } from '@temporalio/client';
import Koa from 'koa';
import { RateLimiterMemory } from 'rate-limiter-flexible';
import type { Database } from '../database/database.ts';
import { insertAll, run } from '../database/database.ts';
import type { Kind } from '../model/kind.ts';
import { allKinds, kinds } from '../model/kinds.ts';
import { config } from '../runtime/config.ts';
import type { Log } from '../runtime/log.ts';
import { metrics, metricsText } from '../runtime/metrics.ts';
import { Problem, type ProblemDetails } from '../runtime/problem.ts';
import { startOperation } from '../temporal/start-operation.ts';
import { type Authenticator, type Caller, scopesOf, visibleTo } from './caller.ts';
import { acceptChange, type Change, masked } from './change.ts';
import { consoleRoutes } from './console.ts';
import { followEvents } from './events.ts';
import { openApiDocument } from './openapi.ts';
import { askOperation, waitForEnd } from './operations.ts';
import { isUuid } from './query/compile.ts';
import { ProblemInput, parseGetQuery, parseListQuery } from './query/parse.ts';
import { getStatement, type ListRow, listBody, listStatement } from './query/read.ts';
import { uploadRoutes } from './upload.ts';
import { checkAction } from './validate.ts';

export interface Api {
  database: Database;
  temporal: TemporalClient;
  authenticator: Authenticator;
  log: Log;
}

interface State {
  caller: Caller;
  requestId: string;
}

export type Context = RouterContext<State>;

const changeParameters = ['dryRun', 'onBusy', 'expunge', 'cascade'];

/** The body as JSON; refuses what is too large, not JSON, or not an object. */
async function jsonBody(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request) {
    size += (chunk as Buffer).length;
    if (size > config.bodyLimitBytes)
      throw new Problem('PAYLOAD_TOO_LARGE', `a body may have ${config.bodyLimitBytes} bytes`);
    chunks.push(chunk as Buffer);
  }
  if (size === 0) return undefined;
  const type = request.headers['content-type'] ?? '';
  if (!/^application\/(merge-patch\+)?json\b/.test(type))
    throw new Problem('UNSUPPORTED_MEDIA_TYPE', 'send application/json');
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(Buffer.concat(chunks));
    if (text.includes('\\u0000'))
      throw new Problem('INVALID_ARGUMENT', 'text may not hold the character U+0000', {
        violations: [{ field: 'body', message: 'holds U+0000' }],
      });
    return JSON.parse(text, (key, value: unknown) => {
      if (key === '__proto__') throw new Problem('MALFORMED_REQUEST', 'the body has a member named __proto__');
      return value;
    });
  } catch (error) {
    if (error instanceof Problem) throw error;
    throw new Problem(
      'MALFORMED_REQUEST',
      `the body is no JSON: ${error instanceof Error ? error.message : 'unreadable'}`,
    );
  }
}

function send(ctx: Context, status: number, json: string): void {
  ctx.status = status;
  if (json === '') return;
  ctx.type = 'application/json';
  ctx.body = json;
}

function asProblem(error: unknown, log: Log, requestId: string): Problem {
  if (error instanceof Problem) return error;
  if (error instanceof ProblemInput) return new Problem(error.code, error.message, { violations: error.violations });
  const { code, status } = error as { code?: string; status?: number };
  // What PostgreSQL refuses of a value that the schema let through: characters it can not hold, numbers out of range.
  if (typeof code === 'string' && /^22/.test(code))
    return new Problem('INVALID_ARGUMENT', `a value can not be stored: ${(error as Error).message}`);
  if (code === '23505')
    return new Problem('NAME_IN_USE', 'a resource with this id exists already', {
      violations: [{ field: 'requestedId', message: 'is in use' }],
    });
  if (typeof code === 'string' && (/^(08|57|53)/.test(code) || ['ECONNREFUSED', 'ECONNRESET', 'EPIPE'].includes(code)))
    return new Problem('BACKEND_UNAVAILABLE', 'the database does not answer; try again', { retryAfterSeconds: 2 });
  if (status === 400) return new Problem('MALFORMED_REQUEST', (error as Error).message);
  if (/timeout exceeded when trying to connect|Connection terminated/.test((error as Error).message ?? ''))
    return new Problem('BACKEND_UNAVAILABLE', 'the database does not answer; try again', { retryAfterSeconds: 2 });
  log.error(
    { requestId, error: error instanceof Error ? (error.stack ?? error.message) : String(error) },
    'request failed',
  );
  return new Problem('INTERNAL', 'something went wrong here; the request id leads to the log');
}

function tell(ctx: Koa.Context, problem: Problem, requestId: string): void {
  const { retryAfterSeconds } = problem.details as ProblemDetails;
  ctx.status = problem.status;
  ctx.type = 'application/problem+json';
  if (retryAfterSeconds) ctx.set('Retry-After', String(retryAfterSeconds));
  if (problem.code === 'UNAUTHENTICATED') ctx.set('WWW-Authenticate', 'Bearer');
  ctx.body = JSON.stringify({
    type: `/problems/${problem.code}`,
    title: problem.code,
    status: problem.status,
    detail: problem.message,
    code: problem.code,
    requestId,
    ...problem.details,
  });
}

const flag = (value: unknown, name: string): boolean => {
  if (value === undefined || value === 'false' || value === '') return false;
  if (value === 'true') return true;
  throw new Problem('INVALID_ARGUMENT', `${name} is true or false`, {
    violations: [{ field: name, message: 'must be true or false' }],
  });
};

function uuidOf(ctx: Context, kind: Kind): string {
  const id = ctx.params.id ?? '';
  if (!isUuid(id)) throw new Problem('NOT_FOUND', `there is no ${kind.name} ${id.slice(0, 64)}`);
  return id.toLowerCase();
}

const prefer = (ctx: Koa.Context): number => {
  const seconds = Number(/(?:^|[,;\s])wait=(\d+)/.exec(ctx.get('Prefer'))?.[1] ?? 0);
  return Math.min(seconds, 60);
};

/** Everything a change needs from a request; refuses parameters that mean nothing. */
async function changeOf(ctx: Context, kind: Kind, verb: string, targetId: string | null): Promise<Change> {
  for (const name of Object.keys(ctx.query))
    if (!changeParameters.includes(name))
      throw new Problem('INVALID_ARGUMENT', `there is no parameter ${name.slice(0, 64)}`, {
        violations: [{ field: name.slice(0, 64), message: 'there is no such parameter' }],
      });
  const onBusy = ctx.query.onBusy ?? 'queue';
  if (onBusy !== 'queue' && onBusy !== 'fail')
    throw new Problem('INVALID_ARGUMENT', 'onBusy is queue or fail', {
      violations: [{ field: 'onBusy', message: 'must be queue or fail' }],
    });
  const key = ctx.get('Idempotency-Key');
  if (key.length > 128)
    throw new Problem('INVALID_ARGUMENT', 'an Idempotency-Key has at most 128 characters', {
      violations: [{ field: 'Idempotency-Key', message: 'is too long' }],
    });
  const match = ctx.get('If-Match');
  const revision = /^(?:W\/)?"(\d{1,9})"$/.exec(match)?.[1];
  if (match !== '' && match !== '*' && revision === undefined)
    throw new Problem('INVALID_ARGUMENT', 'If-Match holds a revision in quotes', {
      violations: [{ field: 'If-Match', message: 'must be a revision in quotes' }],
    });
  return {
    kind,
    verb,
    targetId,
    body: ctx.method === 'DELETE' ? undefined : await jsonBody(ctx.req),
    caller: ctx.state.caller,
    requestId: ctx.state.requestId,
    sourceAddress: ctx.ip,
    dryRun: flag(ctx.query.dryRun, 'dryRun'),
    idempotencyKey: key === '' ? null : key,
    onBusy,
    ifMatch: revision === undefined ? null : Number(revision),
  };
}

/** Every refused change leaves its entry too; the accepted one's is in the accepting transaction. */
async function auditRefusal(api: Api, change: Change, problem: Problem): Promise<void> {
  const body =
    change.body !== null && typeof change.body === 'object' && !Array.isArray(change.body)
      ? masked(change.kind, change.body as Record<string, unknown>)
      : null;
  const text = JSON.stringify(body);
  await insertAll(api.database.pool, {
    auditEntry: [
      {
        id: randomUUID(),
        projectId: null,
        actorUserId: change.caller.userId,
        actorApiKeyId: change.caller.apiKeyId,
        sourceAddress: change.sourceAddress,
        permission: `${change.kind.name}.${change.verb}`,
        resourceKind: change.kind.name,
        resourceId: change.targetId,
        input: text.length > 8192 || text.includes('\\u0000') ? { truncated: true } : body,
        outcome: 'denied',
        code: problem.code,
        requestId: change.requestId,
      },
    ],
  }).catch((error: unknown) => api.log.warn({ error: String(error) }, 'could not write the audit entry of a refusal'));
}

async function applyChange(api: Api, ctx: Context, change: Change): Promise<void> {
  let outcome: Awaited<ReturnType<typeof acceptChange>>;
  try {
    outcome = await acceptChange(api.database, change);
  } catch (error) {
    const problem = asProblem(error, api.log, change.requestId);
    if (problem.status < 500) await auditRefusal(api, change, problem);
    throw problem;
  }
  if (outcome.rights) api.authenticator.forget();
  if (outcome.start) {
    const { start } = outcome;
    // The client does not wait for Temporal; the dispatcher starts what this misses.
    void startOperation(api.temporal, start).catch((error: unknown) =>
      api.log.warn(
        { operationId: start.id, error: String(error) },
        'Temporal did not take the operation; the dispatcher will',
      ),
    );
  }
  if (outcome.revision) ctx.set('ETag', `"${outcome.revision}"`);
  if (outcome.status === 202) {
    const { id } = JSON.parse(outcome.body) as { id: string };
    ctx.set('Location', `/v1/operations/${id}`);
    const seconds = prefer(ctx);
    if (seconds > 0) {
      await waitForEnd(api.database, id, seconds, abortOf(ctx));
      ctx.set('Preference-Applied', `wait=${seconds}`);
      const row = await read(api, kinds.operation as unknown as Kind, id, ctx.state.caller, {});
      return send(ctx, 202, row ?? outcome.body);
    }
  }
  send(ctx, outcome.status, outcome.body);
}

function abortOf(ctx: Koa.Context): AbortSignal {
  const controller = new AbortController();
  ctx.res.once('close', () => controller.abort());
  return controller.signal;
}

async function read(
  api: Api,
  kind: Kind,
  id: string,
  caller: Caller,
  query: { fields?: string[]; showDeleted?: boolean },
): Promise<string | null> {
  const statement = getStatement(kind, id, { visible: visibleTo(caller, 'get'), ...query });
  const { rows } = await api.database.pool.query<{ json: string; revision: number }>(statement);
  return rows[0]?.json ?? null;
}

async function get(api: Api, ctx: Context, kind: Kind): Promise<void> {
  const id = uuidOf(ctx, kind);
  const query = parseGetQuery(kind, ctx.query, kind.name === 'operation' ? ['waitSeconds'] : []);
  if (ctx.query.waitSeconds !== undefined) {
    const seconds = Number(ctx.query.waitSeconds);
    if (!Number.isInteger(seconds) || seconds < 0 || seconds > 60)
      throw new Problem('INVALID_ARGUMENT', 'waitSeconds is a whole number up to 60', {
        violations: [{ field: 'waitSeconds', message: 'must be 0 to 60' }],
      });
    if (await read(api, kind, id, ctx.state.caller, {})) await waitForEnd(api.database, id, seconds, abortOf(ctx));
  }
  const statement = getStatement(kind, id, { visible: visibleTo(ctx.state.caller, 'get'), ...query });
  const { rows } = await api.database.pool.query<{ json: string; revision: number }>(statement);
  const row = rows[0];
  if (!row) throw new Problem('NOT_FOUND', `there is no ${kind.name} ${id}`);
  ctx.set('ETag', `"${row.revision}"`);
  send(ctx, 200, row.json);
}

function mayList(caller: Caller, kind: Kind): void {
  const scopes = scopesOf(caller, `${kind.name}.list`);
  if (!scopes.anywhere) throw new Problem('FORBIDDEN', `you need the permission ${kind.name}.list`);
}

async function list(
  _api: Api,
  caller: Caller,
  kind: Kind,
  raw: Record<string, unknown>,
  on: { query(statement: { text: string; values: unknown[]; name: string }): Promise<{ rows: unknown[] }> },
): Promise<string> {
  mayList(caller, kind);
  const query = parseListQuery(kind, raw, kind.name === 'event' ? ['follow'] : []);
  const { rows } = await on.query(listStatement(kind, query, visibleTo(caller, 'list')));
  return listBody(query, rows[0] as ListRow);
}

/** Named list requests, answered from one snapshot of the database. */
async function queryMany(api: Api, ctx: Context): Promise<void> {
  const body = await jsonBody(ctx.req);
  const lists =
    body !== null && typeof body === 'object' && !Array.isArray(body)
      ? Object.entries(body as Record<string, unknown>)
      : null;
  if (!lists || lists.length === 0 || lists.length > 20)
    throw new Problem('INVALID_ARGUMENT', 'the body names 1 to 20 lists', {
      violations: [{ field: 'body', message: 'must be an object of 1 to 20 lists' }],
    });
  const wanted = lists.map(([name, value]) => {
    const { kind: plural, ...raw } = (value ?? {}) as Record<string, unknown>;
    const kind = allKinds.find((candidate) => candidate.name === plural || candidate.plural === plural);
    if (!kind)
      throw new Problem('INVALID_ARGUMENT', `${name.slice(0, 64)}.kind names no kind`, {
        violations: [{ field: `${name.slice(0, 64)}.kind`, message: 'must be the name of a kind' }],
      });
    mayList(ctx.state.caller, kind);
    return { name, kind, raw };
  });
  const client = await api.database.pool.connect();
  try {
    await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY');
    const parts: string[] = [];
    for (const { name, kind, raw } of wanted) {
      try {
        parts.push(`${JSON.stringify(name)}:${await list(api, ctx.state.caller, kind, raw, client)}`);
      } catch (error) {
        if (error instanceof ProblemInput)
          throw new Problem(error.code, `${name}: ${error.message}`, {
            violations: error.violations.map((violation) => ({ ...violation, field: `${name}.${violation.field}` })),
          });
        throw error;
      }
    }
    send(ctx, 200, `{${parts.join(',')}}`);
  } finally {
    await client.query('ROLLBACK').catch(() => {});
    client.release();
  }
}

function resourceRoutes(router: Router<State>, api: Api, kind: Kind): void {
  const root = `/v1/${kind.plural}`;
  const { create, update, delete: remove, ...actions } = kind.actions;
  router.get(root, async (ctx) => {
    if (kind.name === 'event' && ctx.query.follow !== undefined) return followEvents(api, ctx);
    send(ctx, 200, await list(api, ctx.state.caller, kind, ctx.query, api.database.pool));
  });
  router.get(`${root}/:id`, (ctx) => get(api, ctx, kind));
  if (create) router.post(root, async (ctx) => applyChange(api, ctx, await changeOf(ctx, kind, 'create', null)));
  if (update)
    router.patch(`${root}/:id`, async (ctx) =>
      applyChange(api, ctx, await changeOf(ctx, kind, 'update', uuidOf(ctx, kind))),
    );
  if (remove)
    router.delete(`${root}/:id`, async (ctx) =>
      applyChange(api, ctx, await changeOf(ctx, kind, 'delete', uuidOf(ctx, kind))),
    );
  for (const verb of Object.keys(actions)) {
    if (kind.name === 'operation') continue;
    if (kind.name === 'image' && verb === 'import') continue;
    router.post(`${root}/:id/actions/${verb}`, async (ctx) =>
      applyChange(api, ctx, await changeOf(ctx, kind, verb, uuidOf(ctx, kind))),
    );
  }
}

function operationRoutes(router: Router<State>, api: Api): void {
  const kind = kinds.operation as unknown as Kind;
  for (const verb of ['cancel', 'retry', 'skipStep'] as const)
    router.post(`/v1/operations/:id/actions/${verb}`, async (ctx) => {
      const id = uuidOf(ctx, kind);
      const { caller, requestId } = ctx.state;
      const change = await changeOf(ctx, kind, verb, id);
      if (!(await read(api, kind, id, caller, {}))) throw new Problem('NOT_FOUND', `there is no operation ${id}`);
      const input = checkAction(kind, verb, change.body);
      const scopes = scopesOf(caller, `operation.${verb}`);
      const [row] = await run<{ projectId: string | null }>(
        api.database.pool,
        `SELECT "projectId" FROM "operation" WHERE id = $1`,
        [id],
      );
      if (!scopes.platform && !(row?.projectId && scopes.projects.has(row.projectId)))
        throw new Problem('FORBIDDEN', `you need the permission operation.${verb} here`);
      await askOperation(
        api.database,
        api.temporal,
        id,
        verb,
        { userId: caller.userId, apiKeyId: caller.apiKeyId, requestId, sourceAddress: ctx.ip },
        input,
      );
      send(ctx, 200, (await read(api, kind, id, caller, {})) ?? '');
    });
}

function publicRoutes(router: Router<State>, api: Api): void {
  const document = JSON.stringify(openApiDocument());
  const swagger = dirname(createRequire(import.meta.url).resolve('swagger-ui-dist/package.json'));
  const files: Record<string, string> = {
    'swagger-ui.css': 'text/css',
    'swagger-ui-bundle.js': 'text/javascript',
    'favicon-32x32.png': 'image/png',
  };
  router.get('/healthz', (ctx) => {
    ctx.body = 'ok\n';
  });
  router.get('/readyz', async (ctx) => {
    await run(api.database.pool, 'SELECT 1');
    ctx.body = 'ok\n';
  });
  router.get('/metrics', async (ctx) => {
    const { contentType, body } = await metricsText();
    ctx.set('Content-Type', contentType);
    ctx.body = body;
  });
  router.get('/v1/openapi.json', (ctx) => send(ctx, 200, document));
  router.get('/v1/about', (ctx) =>
    send(
      ctx,
      200,
      JSON.stringify({ name: 'Belay', version: '0.1.0', region: config.region, time: new Date().toISOString() }),
    ),
  );
  router.get('/docs', (ctx) => {
    ctx.type = 'text/html';
    ctx.body = `<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Belay API</title><link rel="stylesheet" href="/docs/swagger-ui.css"><link rel="icon" href="/docs/favicon-32x32.png"></head>
<body><div id="api"></div><script src="/docs/swagger-ui-bundle.js"></script>
<script>SwaggerUIBundle({ url: '/v1/openapi.json', dom_id: '#api', deepLinking: true, filter: true, docExpansion: 'none', persistAuthorization: true, validatorUrl: null })</script></body></html>`;
  });
  router.get('/docs/:file', (ctx) => {
    const type = files[ctx.params.file ?? ''];
    if (!type) throw new Problem('NOT_FOUND', 'there is no such page');
    ctx.type = type;
    ctx.set('Cache-Control', 'public, max-age=86400');
    ctx.body = createReadStream(join(swagger, ctx.params.file ?? ''));
  });
}

const open = /^\/(healthz|readyz|metrics|docs(\/.*)?|v1\/openapi\.json|v1\/about)$/;

/** Builds the server; the caller listens and closes. */
export function buildServer(api: Api): Server {
  const app = new Koa({ proxy: false });
  const limiter = new RateLimiterMemory({ points: config.requestsPerMinute, duration: 60 });
  const router = new Router<State>();
  app.use(async (ctx, next) => {
    const started = performance.now();
    const given = ctx.get('X-Request-Id');
    const requestId = /^[A-Za-z0-9._-]{1,64}$/.test(given) ? given : randomUUID();
    ctx.state.requestId = requestId;
    ctx.set('X-Request-Id', requestId);
    try {
      if (!open.test(ctx.path)) {
        const caller = await api.authenticator.authenticate(ctx.get('Authorization'), ctx.ip);
        ctx.state.caller = caller;
        try {
          await limiter.consume(caller.accountId);
        } catch (limit) {
          const seconds = Math.ceil(((limit as { msBeforeNext?: number }).msBeforeNext ?? 1000) / 1000);
          throw new Problem('RATE_LIMITED', `more than ${config.requestsPerMinute} requests in a minute`, {
            retryAfterSeconds: seconds,
          });
        }
      }
      await next();
      if (ctx.respond !== false && ctx.status === 404 && ctx.body === undefined)
        throw new Problem('NOT_FOUND', `there is nothing at ${ctx.path.slice(0, 128)}`);
      if (ctx.status === 405 || ctx.status === 501)
        throw new Problem('METHOD_NOT_ALLOWED', `${ctx.method} is not possible at ${ctx.path.slice(0, 128)}`);
    } catch (error) {
      tell(ctx, asProblem(error, api.log, requestId), requestId);
    }
    const route = (ctx as unknown as { routerPath?: string; _matchedRoute?: string })._matchedRoute ?? 'none';
    const status = String(ctx.status);
    const secondsTaken = (performance.now() - started) / 1000;
    metrics.requests.labels(ctx.method, String(route), status).inc();
    metrics.requestDuration.labels(ctx.method, String(route)).observe(secondsTaken);
    api.log.debug({ requestId, method: ctx.method, path: ctx.path, status, seconds: secondsTaken }, 'request');
  });
  publicRoutes(router, api);
  uploadRoutes(router, api);
  consoleRoutes(router, api);
  operationRoutes(router, api);
  router.post('/v1/query', (ctx) => queryMany(api, ctx));
  for (const kind of allKinds) resourceRoutes(router, api, kind);
  app.use(router.routes());
  app.use(router.allowedMethods());
  app.on('error', (error: Error) => api.log.debug({ error: error.message }, 'connection'));
  const server = createServer(app.callback());
  server.headersTimeout = 30_000;
  server.requestTimeout = 0;
  server.keepAliveTimeout = 65_000;
  return server;
}

export type { State };
export { abortOf, applyChange, asProblem, changeOf, flag, send, uuidOf };
