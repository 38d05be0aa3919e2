/** The serial console of an instance, streamed from its host, and from the next one when it moves. */
import { Readable } from 'node:stream';
import { hostConnections } from '../database/hosts.ts';
import { from, statement, type Values } from '../database/statement.ts';
import { AgentError } from '../runtime/hosts.ts';
import { Problem } from '../runtime/problem.ts';
import { type Api, flag } from './request.ts';
import { standingOf } from './standing.ts';
import type { Viewing } from './views.ts';

/** Between two looks at where a guest that has left its host is going. */
const lookMs = 100;

export async function serialLog({ api, ctx, row, stillMay }: Viewing): Promise<void> {
  const follow = flag(ctx.query.follow, 'follow');
  const hostId = row.hostId ?? row.lastHostId;
  if (!hostId) throw new Problem('INVALID_STATE', `instance ${row.id} has not been on a host yet`);
  // One that can not be reached is answered as a problem, not as a stream that breaks.
  await hostConnections(api.database).connect(String(hostId));
  const { signal } = standingOf(api, ctx, 'stream', stillMay);
  ctx.type = 'text/plain';
  ctx.set('Cache-Control', 'no-store');
  ctx.body = Readable.from(said(api, row.id, String(hostId), follow, signal), { objectMode: false });
}

/** What the guest says, on one host after the other. */
async function* said(
  api: Api,
  id: string,
  firstHostId: string,
  follow: boolean,
  signal: AbortSignal,
): AsyncGenerator<Buffer> {
  let hostId: string | null = firstHostId;
  for (let arrived = false; hostId; arrived = true) {
    const host = await hostConnections(api.database).connect(hostId);
    try {
      yield* host.serial(id, { follow, arrived, signal }) as AsyncIterable<Buffer>;
    } catch (error) {
      if (signal.aborted) return;
      // It left between the look at the record and the question.
      if (!(error instanceof AgentError && error.code === 'NOT_FOUND')) throw error;
    }
    hostId = follow ? await nextHost(api, id, hostId, signal) : null;
  }
}

const placeOfInstance = statement((p: Values<{ id: string }>) =>
  from.selectFrom('instance').select(['hostId', 'state']).where('id', '=', p.id).where('deletedAt', 'is', null),
);

/** Where an instance goes on whose guest has left this host; null when it is not on its way. */
async function nextHost(api: Api, id: string, leftHostId: string, signal: AbortSignal): Promise<string | null> {
  while (!signal.aborted) {
    const [row] = await placeOfInstance(api.database.connections, { id });
    if (row?.hostId && row.hostId !== leftHostId) return row.hostId;
    if (row?.state !== 'migrating') return null;
    await new Promise((resolve) => setTimeout(resolve, lookMs));
  }
  return null;
}
