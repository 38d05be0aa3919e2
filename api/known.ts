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

/** Puts before every route of a router the refusal of parameters, headers and bodies that the document does not name for it. */
export function onlyKnown(router: Router<State>, document: JsonSchema): void {
  const paths = document.paths as Record<string, Record<string, Route>>;
  for (const layer of router.stack) {
    const routes = paths[String(layer.path).replaceAll(/:(\w+)/g, '{$1}')] ?? {};
    // Behind what notes whatever is refused, before the route itself.
    layer.stack.splice(-1, 0, (ctx, next) => {
      refuseUnknown(ctx, routes[ctx.method === 'HEAD' ? 'get' : ctx.method.toLowerCase()] ?? {});
      return next();
    });
  }
}

function refuseUnknown(ctx: Koa.Context, { parameters = [], requestBody }: Route): void {
  const named = (place: string): string[] => parameters.flatMap((one) => (one.in === place ? [one.name] : []));
  const known = named('query');
  const headers = named('header');
  const hasBody = ctx.get('Transfer-Encoding') !== '' || Number(ctx.get('Content-Length')) > 0;
  const unknown = Object.keys(ctx.query)
    .find((name) => !known.includes(name))
    ?.slice(0, 64);
  const header = askingHeaders.find((name) => ctx.get(name) !== '' && !headers.includes(name));
  const problem =
    (unknown !== undefined && refused(unknown, `is no parameter here; there are ${known.join(', ') || 'none'}`)) ||
    (header && refused(header, 'means nothing here')) ||
    (hasBody && !requestBody && refused('body', 'means nothing here'));
  if (!problem) return;
  // What is still on its way would be taken for the next request.
  if (hasBody) ctx.set('Connection', 'close');
  throw problem;
}
