/** The serial console of an instance, streamed from its host. */
import type Router from '@koa/router';
import { run } from '../database/database.ts';
import type { Kind } from '../model/kind.ts';
import { kinds } from '../model/kinds.ts';
import { hostConnections } from '../runtime/hosts.ts';
import { Problem } from '../runtime/problem.ts';
import { may } from './caller.ts';
import { type Api, abortOf, type Context, flag, type State, uuidOf } from './request.ts';

async function serial(api: Api, ctx: Context): Promise<void> {
  const id = uuidOf(ctx, kinds.instance as unknown as Kind);
  const follow = flag(ctx.query.follow, 'follow');
  const [row] = await run<{ projectId: string; hostId: string | null; state: string }>(
    api.database.pool,
    `SELECT "projectId", coalesce("hostId", "lastHostId") AS "hostId", state FROM "instance" WHERE id = $1 AND "deletedAt" IS NULL`,
    [id],
  );
  if (!row || !may(ctx.state.caller, 'instance.get', { projectId: row.projectId, resourceId: id }))
    throw new Problem('NOT_FOUND', `there is no instance ${id}`);
  if (!may(ctx.state.caller, 'instance.readSerial', { projectId: row.projectId, resourceId: id }))
    throw new Problem('FORBIDDEN', 'you need the permission instance.readSerial here');
  if (!row.hostId) throw new Problem('INVALID_STATE', `instance ${id} has not been on a host yet`);
  const host = await hostConnections(api.database).connect(row.hostId);
  ctx.type = 'text/plain';
  ctx.set('Cache-Control', 'no-store');
  ctx.body = host.serial(id, { follow, signal: abortOf(ctx) });
}

export function consoleRoutes(router: Router<State>, api: Api): void {
  router.get('/v1/instances/:id/serial', (ctx) => serial(api, ctx));
}
