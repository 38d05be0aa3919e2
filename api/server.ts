/** The HTTP surface: routes made from the model, one way for every read and every change. */
import { randomUUID } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import Router from '@koa/router';
import Koa from 'koa';
import { RateLimiterMemory } from 'rate-limiter-flexible';
import { isAnswered } from '../acceptance/accept.ts';
import { type Caller, type Scopes, scopesOf } from '../acceptance/caller.ts';
import type { Change } from '../acceptance/change.ts';
import { manyOf } from '../acceptance/platform/operation.ts';
import { recurringOf } from '../acceptance/platform/schedule.ts';
import { checkAction } from '../acceptance/validate.ts';
import { visibleTo } from '../acceptance/visible.ts';
import { begunBy } from '../database/operations.ts';
import { isThere } from '../database/statement.ts';
import { instantAt } from '../model/forms.ts';
import type { Kind } from '../model/kind.ts';
import { allKinds, kinds } from '../model/kinds.ts';
import { manyTargets } from '../model/platform/operation.ts';
import { config } from '../runtime/config.ts';
import { answered, metricsText } from '../runtime/metrics.ts';
import { Problem } from '../runtime/problem.ts';
import { release } from '../runtime/release.ts';
import { followEvents } from './events.ts';
import { onlyKnown, refused } from './known.ts';
import { inOneSnapshot, list, mayList, search } from './lists.ts';
import { openApiDocument } from './openapi.ts';
import { askOperation, planOfAsking } from './operations.ts';
import { checkFilter } from './query/find.ts';
import { readById } from './query/gather.ts';
import { parseGetQuery } from './query/parse.ts';
import { asks, refusalNotes } from './refusals.ts';
import {
  type Api,
  applyChange,
  asProblem,
  type Context,
  changeOf,
  jsonBody,
  read,
  type State,
  send,
  takeTurn,
  tell,
  uuidOf,
} from './request.ts';
import { standingOf } from './standing.ts';
import { maxHeadBytes, refuseUnreadable } from './unreadable.ts';
import { uploadRoutes } from './upload.ts';
import { viewRoutes } from './views.ts';
import { waitForEnd } from './waits.ts';

async function get(api: Api, ctx: Context, kind: Kind): Promise<void> {
  const id = uuidOf(ctx, kind);
  const query = parseGetQuery(kind, ctx.query, kind.ends ? ['waitSeconds'] : []);
  if (ctx.query.waitSeconds !== undefined) {
    const seconds = Number(ctx.query.waitSeconds);
    if (!Number.isInteger(seconds) || seconds < 0 || seconds > 60)
      throw new Problem('INVALID_ARGUMENT', 'waitSeconds is a whole number up to 60', {
        violations: [{ field: 'waitSeconds', message: 'must be 0 to 60' }],
      });
    if (seconds > 0 && (await read(api, kind, id, ctx.state.caller, {}))) {
      const standing = standingOf(api, ctx, 'wait', async (caller) => (await read(api, kind, id, caller, {})) !== null);
      await waitForEnd(api.open, id, seconds, standing.signal);
      standing.refuse();
      ctx.state.caller = standing.caller;
    }
  }
  const row = await readById(api.database.connections, kind, id, {
    visible: visibleTo(ctx.state.caller, 'get'),
    ...query,
  });
  if (!row) throw new Problem('NOT_FOUND', `there is no ${kind.name} ${id}`);
  ctx.set('ETag', `"${row.revision}"`);
  send(ctx, 200, row.json);
}

/** Named list requests, answered from one snapshot of the database. */
async function queryMany(api: Api, ctx: Context): Promise<void> {
  const body = await jsonBody(ctx.req);
  await takeTurn(ctx);
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
  const parts = await search(api, ctx.state.caller, (on) => inOneSnapshot(on, ctx.state.caller, wanted));
  send(ctx, 200, parts);
}

function resourceRoutes(router: Router<State>, api: Api, kind: Kind): void {
  const root = `/v1/${kind.plural}`;
  const { create, update, delete: remove, ...actions } = kind.actions;
  router.get(root, async (ctx) => {
    if (kind.followed && ctx.query.follow !== undefined) return followEvents(api, ctx);
    if (ctx.get('Last-Event-ID') !== '') throw refused('Last-Event-ID', 'means nothing without follow');
    send(ctx, 200, await list(api, ctx.state.caller, kind, ctx.query));
  });
  router.get(`${root}/:id`, (ctx) => get(api, ctx, kind));
  viewRoutes(router, api, kind);
  if (create)
    router.post(root, asks(kind, 'create'), async (ctx) =>
      applyChange(api, ctx, await checkingFilter(api, await changeOf(ctx, kind, 'create', null))),
    );
  if (update)
    router.patch(`${root}/:id`, asks(kind, 'update'), async (ctx) =>
      applyChange(api, ctx, await checkingFilter(api, await changeOf(ctx, kind, 'update', uuidOf(ctx, kind)))),
    );
  if (remove)
    router.delete(`${root}/:id`, asks(kind, 'delete'), async (ctx) =>
      applyChange(api, ctx, await changeOf(ctx, kind, 'delete', uuidOf(ctx, kind))),
    );
  for (const [verb, { on, asked }] of Object.entries(actions)) {
    if (on === 'collection') {
      router.post(`${root}/actions/${verb}`, asks(kind, verb), async (ctx) =>
        applyChange(api, ctx, await namingTargets(api, await changeOf(ctx, kind, verb, null))),
      );
      continue;
    }
    if (asked || on === 'delete') continue;
    router.post(`${root}/:id/actions/${verb}`, asks(kind, verb), async (ctx) =>
      applyChange(api, ctx, await changeOf(ctx, kind, verb, uuidOf(ctx, kind))),
    );
  }
}

/** The filter of a schedule is read at each run; whether it can be read is said at once. */
async function checkingFilter(api: Api, change: Change): Promise<Change> {
  const { kind, targetId, caller } = change;
  const body = change.body as { action?: unknown; targets?: { filter?: unknown } | null } | undefined;
  const filter = body?.targets?.filter;
  if (!kind.finds || typeof filter !== 'string') return change;
  const seen = targetId === null ? null : await read(api, kind, targetId, caller, { fields: ['action'] });
  const action = targetId === null ? body?.action : seen && (JSON.parse(seen) as { action: string }).action;
  // Of what the caller may not see, the change itself says so.
  if (action) checkFilter(recurringOf(action).target, filter, 'targets.filter');
  return change;
}

/** Of a change of many: those that its filter finds, which are from then on named one by one. */
async function namingTargets(api: Api, change: Change): Promise<Change> {
  const body = change.body as { action?: unknown; targets?: { ids?: unknown; filter?: unknown } } | undefined;
  const { targets } = body ?? {};
  if (typeof targets?.filter !== 'string') return change;
  if (targets.ids !== undefined) throw refused('targets', 'has ids or a filter, and not both');
  const { kind } = manyOf(body?.action);
  const asked = structuredClone(body);
  // Asked again, it would find others: what it did to the first.
  if (await isAnswered(api.database, change)) return { ...change, asked };
  const ids: string[] = [];
  let pageToken: string | undefined;
  do {
    const page = await list(api, change.caller, kind, {
      filter: targets.filter,
      fields: 'id',
      pageSize: 500,
      ...(pageToken ? { pageToken } : {}),
    });
    const { items, nextPageToken } = JSON.parse(page) as { items: { id: string }[]; nextPageToken: string | null };
    ids.push(...items.map(({ id }) => id));
    if (ids.length > manyTargets)
      throw refused('targets.filter', `finds more than ${manyTargets} at a time; narrow it down`);
    pageToken = nextPageToken ?? undefined;
  } while (pageToken);
  return { ...change, asked, body: { ...body, targets: { ...targets, ids } } };
}

/** Whether a tenant may ask this of an operation: it is its own and in no project, or it is in a project of its own, and was not begun by those who run the platform, whom to invite is everybody's. */
async function mayStop(api: Api, caller: Caller, scopes: Scopes, id: string): Promise<boolean> {
  const [row] = await begunBy(api.database.connections, {
    id,
    accountIds: [caller.accountId, ...scopes.accounts],
  });
  if (row?.projectId === null && row.actorUserId === caller.userId) return scopes.anywhere;
  return row?.projectId != null && scopes.projects.has(row.projectId) && row.known;
}

function operationRoutes(router: Router<State>, api: Api): void {
  const kind = kinds.operation as unknown as Kind;
  for (const verb of ['cancel', 'retry', 'continue', 'skipStep'] as const)
    router.post(`/v1/operations/:id/actions/${verb}`, asks(kind, verb), async (ctx) => {
      const id = uuidOf(ctx, kind);
      const { caller, requestId } = ctx.state;
      const change = await changeOf(ctx, kind, verb, id);
      const seen = await read(api, kind, id, caller, { fields: ['projectId'] });
      if (!seen) throw new Problem('NOT_FOUND', `there is no operation ${id}`);
      if (ctx.state.asked) ctx.state.asked.projectId = (JSON.parse(seen) as { projectId: string | null }).projectId;
      const input = checkAction(kind, verb, change.body);
      const scopes = scopesOf(caller, `operation.${verb}`);
      if (!scopes.platform && (kind.actions[verb]?.operatorOnly || !(await mayStop(api, caller, scopes, id))))
        throw new Problem('FORBIDDEN', `you need the permission operation.${verb} here`);
      await askOperation(
        api.database,
        api.temporal(),
        id,
        verb,
        { userId: caller.userId, apiKeyId: caller.apiKeyId, requestId, sourceAddress: ctx.ip },
        input,
        change,
      );
      send(ctx, 200, change.dryRun ? planOfAsking : ((await read(api, kind, id, caller, {})) ?? ''));
    });
}

function publicRoutes(router: Router<State>, api: Api, document: string): void {
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
    if (api.node?.isDraining()) {
      ctx.status = 503;
      ctx.body = 'draining\n';
      return;
    }
    await isThere(api.database.connections);
    ctx.body = 'ok\n';
  });
  router.get('/metrics', async (ctx) => {
    const { contentType, body } = await metricsText();
    ctx.set('Content-Type', contentType);
    ctx.body = body;
  });
  router.get('/v1/openapi.json', (ctx) => send(ctx, 200, document));
  router.get('/v1/about', (ctx) =>
    send(ctx, 200, JSON.stringify({ name: 'Belay', version: release, region: config.region, time: instantAt() })),
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

/** Of these the turn comes when they have been read. */
const withBody = new Set(['POST', 'PATCH']);
const open = /^\/(healthz|readyz|metrics|docs(\/.*)?|v1\/openapi\.json|v1\/about)$/;

/** The routes of a router by how many parts their paths have. No part of a path has a slash in it, and all are needed. */
function byLength(all: Router<State>): Map<number, ReturnType<Router<State>['routes']>> {
  const lengthOf = ({ path }: { path: string | RegExp }): number => String(path).split('/').length;
  return new Map(
    [...new Set(all.stack.map(lengthOf))].map((length) => {
      const some = new Router<State>();
      some.stack = all.stack.filter((layer) => lengthOf(layer) === length);
      return [length, some.routes()];
    }),
  );
}

/** Answers how many requests are being answered, but for those that only look whether it lives. */
export function countRequests(server: Server): () => number {
  let count = 0;
  server.on('request', ({ url = '' }: IncomingMessage, response: ServerResponse) => {
    if (/^\/(healthz|readyz|metrics)(\?|$)/.test(url)) return;
    count += 1;
    response.once('close', () => {
      count -= 1;
    });
  });
  return () => count;
}

/** Builds the server; the caller listens and closes. */
export function buildServer(api: Api): Server {
  const app = new Koa({ proxy: false });
  const limiter = new RateLimiterMemory({ points: config.requestsPerMinute, duration: 60 });
  const unwritten = (failure: unknown): void =>
    api.log.warn({ error: String(failure) }, 'could not write the audit entry of a refusal');
  const refusals = refusalNotes(api.database, config.refusalsPerMinute, unwritten);
  const router = new Router<State>();
  app.use(async (ctx, next) => {
    const started = performance.now();
    const { 'x-request-id': given, authorization } = ctx.req.headers;
    const requestId = typeof given === 'string' && /^[A-Za-z0-9._-]{1,64}$/.test(given) ? given : randomUUID();
    ctx.state.requestId = requestId;
    ctx.set('X-Request-Id', requestId);
    try {
      if (!open.test(ctx.path)) {
        const caller = await api.authenticator.authenticate(authorization, ctx.ip);
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
      if (ctx.state.caller && !withBody.has(ctx.method)) await takeTurn(ctx as { state: State });
      await next();
      if (ctx.respond !== false && ctx.status === 404 && ctx.body === undefined)
        throw new Problem('NOT_FOUND', `there is nothing at ${ctx.path.slice(0, 128)}`);
      if (ctx.status === 405 || ctx.status === 501)
        throw new Problem('METHOD_NOT_ALLOWED', `${ctx.method} is not possible at ${ctx.path.slice(0, 128)}`);
    } catch (error) {
      const problem = asProblem(error, api.log, requestId);
      await refusals.note(ctx as unknown as Context, problem).catch(unwritten);
      tell(ctx, problem, requestId);
    } finally {
      (ctx.state as State).giveBack?.();
    }
    const route = (ctx as unknown as { routerPath?: string; _matchedRoute?: string })._matchedRoute ?? 'none';
    const secondsTaken = (performance.now() - started) / 1000;
    const { method, path, status } = ctx;
    answered(method, String(route), status, secondsTaken);
    api.log.debug({ requestId, method, path, status, seconds: secondsTaken }, 'request');
  });
  const document = openApiDocument();
  publicRoutes(router, api, JSON.stringify(document));
  uploadRoutes(router, api);
  operationRoutes(router, api);
  router.post('/v1/query', (ctx) => queryMany(api, ctx));
  onlyKnown(router, document);
  // A router tries its routes one after the other: those of a kind are found by its name in the path, and by how many parts that has.
  const routersOfKinds = new Map(
    allKinds.map((kind) => {
      const all = new Router<State>();
      resourceRoutes(all, api, kind);
      onlyKnown(all, document);
      return [kind.plural, byLength(all)];
    }),
  );
  app.use((ctx, next) => {
    const parts = ctx.path.split('/');
    // A slash at the end means nothing.
    const length = parts.at(-1) === '' ? parts.length - 1 : parts.length;
    const own = routersOfKinds.get(parts[2] ?? '')?.get(length);
    return own ? own(ctx as Context, next) : next();
  });
  app.use(router.routes());
  app.use(router.allowedMethods());
  app.on('error', (error: Error) => api.log.debug({ error: error.message }, 'connection'));
  const server = createServer({ maxHeaderSize: maxHeadBytes }, app.callback());
  server.on('close', () => void refusals.flush().catch(unwritten));
  server.on('clientError', refuseUnreadable);
  server.headersTimeout = 30_000;
  server.requestTimeout = 0;
  server.keepAliveTimeout = 65_000;
  return server;
}
