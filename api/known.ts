/**
 * What a request may say beside its path: what the API's own document names for the route, and nothing else. Whatever means nothing
 * is refused by its name, so that nobody takes for done what was only asked.
 */
import type Router from '@koa/router';
import type Koa from 'koa';
import type { JsonSchema } from '../model/schemas.ts';
import { Problem } from '../runtime/problem.ts';
import type { State } from './request.ts';

/** Headers that ask for something. All others are HTTP's own, or say what a server may pass over (RFC 7240, `Prefer`). */
export const askingHeaders = ['If-Match', 'Idempotency-Key', 'Belay-Callback-Url', 'Last-Event-ID'];

interface Route {
  parameters?: { name: string; in: string }[];
  requestBody?: unknown;
}

export const refused = (name: string, message: string): Problem =>
  new Problem('INVALID_ARGUMENT', `${name} ${message}`, { violations: [{ field: name, message }] });

/** What a request may say to one route; found out once. */
interface Known {
  parameters: string[];
  /** Asking headers that mean nothing there, as Node names them. */
  strange: { name: string; key: string }[];
  takesBody: boolean;
}

function knownOf({ parameters = [], requestBody }: Route): Known {
  const named = (place: string): string[] => parameters.flatMap((one) => (one.in === place ? [one.name] : []));
  const headers = named('header');
  return {
    parameters: named('query'),
    strange: askingHeaders.flatMap((name) => (headers.includes(name) ? [] : [{ name, key: name.toLowerCase() }])),
    takesBody: requestBody !== undefined,
  };
}

/** Puts before every route of a router the refusal of parameters, headers and bodies that the document does not name for it. */
export function onlyKnown(router: Router<State>, document: JsonSchema): void {
  const paths = document.paths as Record<string, Record<string, Route>>;
  for (const layer of router.stack) {
    const routes = paths[String(layer.path).replaceAll(/:(\w+)/g, '{$1}')] ?? {};
    const known = new Map(
      layer.methods.map((method) => [method, knownOf(routes[method === 'HEAD' ? 'get' : method.toLowerCase()] ?? {})]),
    );
    const nothing = knownOf({});
    // Behind what notes whatever is refused, before the route itself.
    layer.stack.splice(-1, 0, (ctx, next) => {
      refuseUnknown(ctx, known.get(ctx.method) ?? nothing);
      return next();
    });
  }
}

function refuseUnknown(ctx: Koa.Context, { parameters, strange, takesBody }: Known): void {
  const given = ctx.req.headers;
  const hasBody = Boolean(given['transfer-encoding']) || Number(given['content-length']) > 0;
  const unknown =
    ctx.querystring === ''
      ? undefined
      : Object.keys(ctx.query)
          .find((name) => !parameters.includes(name))
          ?.slice(0, 64);
  const header = strange.find(({ key }) => Boolean(given[key]));
  if (unknown === undefined && !header && (!hasBody || takesBody)) return;
  // What is still on its way would be taken for the next request.
  if (hasBody) ctx.set('Connection', 'close');
  if (unknown !== undefined)
    throw refused(unknown, `is no parameter here; there are ${parameters.join(', ') || 'none'}`);
  throw header ? refused(header.name, 'means nothing here') : refused('body', 'means nothing here');
}
