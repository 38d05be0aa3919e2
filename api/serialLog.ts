/** The serial console of an instance, streamed from its host. */

import { hostConnections } from '../runtime/hosts.ts';
import { Problem } from '../runtime/problem.ts';
import { abortOf, flag } from './request.ts';
import type { Viewing } from './views.ts';

export async function serialLog({ api, ctx, row }: Viewing): Promise<void> {
  const follow = flag(ctx.query.follow, 'follow');
  const hostId = row.hostId ?? row.lastHostId;
  if (!hostId) throw new Problem('INVALID_STATE', `instance ${row.id} has not been on a host yet`);
  const host = await hostConnections(api.database).connect(String(hostId));
  ctx.type = 'text/plain';
  ctx.set('Cache-Control', 'no-store');
  ctx.body = host.serial(row.id, { follow, signal: abortOf(ctx) });
}
