/** One request: its body, its change, its answer or its problem. Shared by all routes. */
import type { IncomingMessage } from 'node:http';
import type { RouterContext } from '@koa/router';
import type { Client as TemporalClient } from '@temporalio/client';
import type Koa from 'koa';
import { acceptChange } from '../acceptance/accept.ts';
import type { Caller } from '../acceptance/caller.ts';
import type { Change } from '../acceptance/change.ts';
import { veilOf } from '../acceptance/veil.ts';
import { visibleTo } from '../acceptance/visible.ts';
import type { ControlNode } from '../database/controlNodes.ts';
import { isOutage } from '../database/database.ts';
import { cascade } from '../model/cascade.ts';
import type { Kind } from '../model/kind.ts';
import { kinds } from '../model/kinds.ts';
import { config } from '../runtime/config.ts';
import type { Log } from '../runtime/log.ts';
import { Problem, type ProblemDetails } from '../runtime/problem.ts';
import { startOperation, startsWait } from '../temporal/start-operation.ts';
import type { Authenticator } from './authenticate.ts';
import type { Databases } from './databases.ts';
import { keptKeys } from './keptKeys.ts';
import { refused } from './known.ts';
import { askAgainIn } from './operations.ts';
import { hasPlace } from './places.ts';
import { isUuid } from './query/compile.ts';
import { readById } from './query/gather.ts';
import { ProblemInput } from './query/parse.ts';
import type { Asked } from './refusals.ts';
import { standingOf } from './standing.ts';
import { unstorable } from './storable.ts';
import { turnsOf } from './turns.ts';
import { waitForEnd } from './waits.ts';

export interface Api extends Databases {
  /** The client of the moment: its certificates may be renewed. */
  temporal(): TemporalClient;
  authenticator: Authenticator;
  log: Log;
  /** What this process is registered as; only those that serve others are. */
  node?: Pick<ControlNode, 'isDraining'>;
}

export interface State {
  caller: Caller;
  requestId: string;
  asked?: Asked;
  /** Gives back the place that the request has among those that are answered at once. */
  giveBack?: () => void;
}

/** Reads that one caller asks for side by side are gathered into one statement: whoever is alone may ask for more. */
const requests = turnsOf(config.requestsAtOnce, { least: 2, alone: 2 * config.requestsAtOnce });

/** Waits for the account's turn: when all of a body is there, so that a slow sender holds no place. */
export async function takeTurn({ state }: { state: State }): Promise<void> {
  state.giveBack ??= await requests.take(state.caller.accountId);
}

export type Context = RouterContext<State>;

async function bytesOf(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request) {
    size += (chunk as Buffer).length;
    if (size > config.bodyLimitBytes)
      throw new Problem('PAYLOAD_TOO_LARGE', `a body may have ${config.bodyLimitBytes} bytes`);
    chunks.push(chunk as Buffer);
  }
  return Buffer.concat(chunks);
}

/** What is read in time; later it goes on until its connection is closed, and nobody cares. */
async function inTime<T>(reading: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    const problem = new Problem('TOO_SLOW', `the body was not there after ${config.bodySeconds} seconds`);
    timer = setTimeout(() => reject(problem), config.bodySeconds * 1_000);
  });
  reading.catch(() => {});
  try {
    return await Promise.race([reading, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** The body as JSON; refuses what is too large, too slow, not JSON, or not an object. */
export async function jsonBody(request: IncomingMessage): Promise<unknown> {
  const bytes = await inTime(bytesOf(request));
  if (bytes.length === 0) return undefined;
  const type = request.headers['content-type'] ?? '';
  if (!/^application\/(merge-patch\+)?json\b/.test(type))
    throw new Problem('UNSUPPORTED_MEDIA_TYPE', 'send application/json');
  try {
    const value: unknown = JSON.parse(textOf(bytes), (key, member: unknown) => {
      if (key === '__proto__') throw new Problem('MALFORMED_REQUEST', 'the body has a member named __proto__');
      return member;
    });
    const violations = unstorable(value);
    const [first] = violations;
    if (first) throw new Problem('INVALID_ARGUMENT', `${first.field} ${first.message}`, { violations });
    return value;
  } catch (error) {
    if (error instanceof Problem) throw error;
    throw new Problem('MALFORMED_REQUEST', `the body is no JSON: ${whatIsWrong(error)}`);
  }
}

function textOf(bytes: Buffer): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw new Problem('MALFORMED_REQUEST', 'the body is no JSON: its bytes are not UTF-8');
  }
}

/** The runtime's own words change from one version to the next, and repeat what was sent. */
function whatIsWrong(error: unknown): string {
  if (error instanceof RangeError) return 'it is nested too deeply';
  return /end of JSON|Unterminated/.test(error instanceof Error ? error.message : '')
    ? 'it ends too early'
    : 'it is not written as RFC 8259 asks';
}

/** Answers JSON, or an object of the JSON texts of its members: what the caller may not know is not in it. */
export function send(ctx: Context, status: number, json: string | Record<string, string>): void {
  ctx.status = status;
  if (json === '') return;
  ctx.type = 'application/json';
  // Of a public route there is no caller.
  const veil = ctx.state.caller ? veilOf(ctx.state.caller) : null;
  const told = (text: string): string => veil?.json(text) ?? text;
  ctx.body =
    typeof json === 'string'
      ? told(json)
      : `{${Object.entries(json)
          .map(([name, text]) => `${JSON.stringify(name)}:${told(text)}`)
          .join(',')}}`;
}

export function asProblem(error: unknown, log: Log, requestId: string): Problem {
  if (error instanceof Problem) return error;
  if (error instanceof ProblemInput) return new Problem(error.code, error.message, { violations: error.violations });
  const { code, status } = error as { code?: string; status?: number };
  // What PostgreSQL refuses of a value that the schema let through: characters it can not hold, numbers out of range.
  if (typeof code === 'string' && /^22/.test(code)) {
    log.warn({ requestId, error: (error as Error).message }, 'the database refused a value');
    return new Problem('INVALID_ARGUMENT', 'a value is beyond what can be stored');
  }
  if (code === '23503') return new Problem('NOT_FOUND', 'something that this names was deleted just now');
  if (isOutage(error))
    return new Problem('BACKEND_UNAVAILABLE', 'the database does not answer; try again', { retryAfterSeconds: 2 });
  if (status === 400) return new Problem('MALFORMED_REQUEST', 'the request can not be read');
  log.error(
    { requestId, error: error instanceof Error ? (error.stack ?? error.message) : String(error) },
    'request failed',
  );
  return new Problem('INTERNAL', 'something went wrong here; the request id leads to the log');
}

export const bodyOf = (problem: Problem, requestId: string): string =>
  JSON.stringify({
    type: `/problems/${problem.code}`,
    title: problem.code,
    status: problem.status,
    detail: problem.message,
    code: problem.code,
    requestId,
    ...problem.details,
  });

export function tell(ctx: Koa.Context, problem: Problem, requestId: string): void {
  const { retryAfterSeconds } = problem.details as ProblemDetails;
  ctx.status = problem.status;
  ctx.type = 'application/problem+json';
  if (retryAfterSeconds) ctx.set('Retry-After', String(retryAfterSeconds));
  // What is still on its way would be taken for the next request.
  if (problem.code === 'TOO_SLOW') ctx.set('Connection', 'close');
  if (problem.code === 'UNAUTHENTICATED') ctx.set('WWW-Authenticate', 'Bearer');
  const { caller } = ctx.state as Partial<State>;
  const body = bodyOf(problem, requestId);
  ctx.body = (caller ? veilOf(caller)?.json(body) : null) ?? body;
}

export const flag = (value: unknown, name: string): boolean => {
  if (value === undefined || value === 'false' || value === '') return false;
  if (value === 'true') return true;
  throw new Problem('INVALID_ARGUMENT', `${name} is true or false`, {
    violations: [{ field: name, message: 'must be true or false' }],
  });
};

export function uuidOf(ctx: Context, kind: Kind): string {
  const id = ctx.params.id ?? '';
  if (!isUuid(id)) throw new Problem('NOT_FOUND', `there is no ${kind.name} ${id.slice(0, 64)}`);
  return id.toLowerCase();
}

const prefer = (ctx: Koa.Context): number => {
  const seconds = Number(/(?:^|[,;\s])wait=(\d+)/.exec(ctx.get('Prefer'))?.[1] ?? 0);
  return Math.min(seconds, 60);
};

/** The address that a caller wants to be told at; null when it wants none. */
function callbackUrlOf(given: string): string | null {
  if (given === '') return null;
  const url = URL.canParse(given) && given.length <= 2048 ? new URL(given) : null;
  if (!url || !/^https?:$/.test(url.protocol) || url.username !== '' || url.password !== '')
    throw new Problem('INVALID_ARGUMENT', 'Belay-Callback-Url is an http or https address without credentials', {
      violations: [{ field: 'Belay-Callback-Url', message: 'must be an http or https address without credentials' }],
    });
  return url.href;
}

/** What a delete may be told beside what every change may: there is no body, so it stands in the query. */
const deleteInputs = (kind: Kind, verb: string): string[] =>
  verb === 'delete'
    ? Object.keys((kind.actions.delete?.input as { properties?: object } | undefined)?.properties ?? {})
    : [];

const cascadeInputs = (cascade.input as unknown as { properties: object }).properties;

/** Everything a change needs from a request; what means nothing to its route was refused before. */
export async function changeOf(ctx: Context, kind: Kind, asked: string, targetId: string | null): Promise<Change> {
  const inputs = deleteInputs(kind, asked);
  const tree = asked === 'delete' && Object.keys(cascadeInputs).some((name) => flag(ctx.query[name], name));
  const verb = tree ? 'cascade' : asked;
  const other = tree && inputs.find((name) => flag(ctx.query[name], name));
  if (other)
    throw new Problem('INVALID_ARGUMENT', `${other} does not go with cascade or expunge`, {
      violations: [{ field: other, message: 'does not go with cascade or expunge' }],
    });
  const onBusy = ctx.query.onBusy ?? 'queue';
  if (onBusy !== 'queue' && onBusy !== 'fail')
    throw new Problem('INVALID_ARGUMENT', 'onBusy is queue or fail', {
      violations: [{ field: 'onBusy', message: 'must be queue or fail' }],
    });
  // Of deletes alone the document names them where they mean something only with a cascade.
  if (kind.actions[verb]?.mode === 'sync')
    for (const name of ['onBusy', 'Belay-Callback-Url'])
      if (ctx.query[name] !== undefined || ctx.get(name) !== '') throw refused(name, 'means nothing here');
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
  const body =
    ctx.method === 'DELETE'
      ? Object.fromEntries(
          (tree ? Object.keys(cascadeInputs) : inputs).flatMap((name) =>
            flag(ctx.query[name], name) ? [[name, true]] : [],
          ),
        )
      : await jsonBody(ctx.req);
  // As it was sent: checking it fills in defaults.
  if (ctx.state.asked) ctx.state.asked.body = structuredClone(body);
  await takeTurn(ctx);
  return {
    kind,
    verb,
    targetId,
    body,
    caller: ctx.state.caller,
    requestId: ctx.state.requestId,
    sourceAddress: ctx.ip,
    dryRun: flag(ctx.query.dryRun, 'dryRun'),
    idempotencyKey: key === '' ? null : key,
    onBusy,
    ifMatch: revision === undefined ? null : Number(revision),
    callbackUrl: callbackUrlOf(ctx.get('Belay-Callback-Url')),
  };
}

const takeKey = keptKeys();

export async function applyChange(api: Api, ctx: Context, change: Change): Promise<void> {
  const outcome = await acceptChange(api.database, { ...change, takeKey, leftToDispatcher: startsWait() });
  if (outcome.rights) api.authenticator.forget();
  // The client does not wait for Temporal. The dispatcher starts what this misses, and, in their order, what comes in faster than it can be started.
  const { start } = outcome;
  if (start)
    void startOperation(api.temporal(), start).catch(async (error: unknown) => {
      api.log.warn(
        { operationId: start.id, error: String(error) },
        'Temporal did not take the operation; the dispatcher will',
      );
      await askAgainIn(api.database, [start.id], 0).catch(() => {});
    });
  if (outcome.revision) ctx.set('ETag', `"${outcome.revision}"`);
  if (outcome.status === 202) {
    const { id } = JSON.parse(outcome.body) as { id: string };
    ctx.set('Location', `/v1/operations/${id}`);
    const seconds = prefer(ctx);
    // It was accepted, whether or not there is a place to wait; a preference may be passed over (RFC 7240).
    if (seconds > 0 && hasPlace('wait', ctx.state.caller)) {
      const operation = kinds.operation as unknown as Kind;
      const standing = standingOf(
        api,
        ctx,
        'wait',
        async (caller) => (await read(api, operation, id, caller, {})) !== null,
      );
      await waitForEnd(api.open, id, seconds, standing.signal);
      ctx.set('Preference-Applied', `wait=${seconds}`);
      // Who may not wait any more is told what was accepted, which it was allowed to ask for.
      const row = standing.signal.aborted ? null : await read(api, operation, id, standing.caller, {});
      return send(ctx, 202, row ?? outcome.body);
    }
  }
  send(ctx, outcome.status, outcome.body);
}

export async function read(
  api: Api,
  kind: Kind,
  id: string,
  caller: Caller,
  query: { fields?: string[]; showDeleted?: boolean },
): Promise<string | null> {
  const row = await readById(api.database.connections, kind, id, { visible: visibleTo(caller, 'get'), ...query });
  return row?.json ?? null;
}
