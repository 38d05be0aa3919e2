/** The event stream: server-sent events (WHATWG HTML 9.2), resumable by `Last-Event-ID`. */

import { type Caller, scopesOf } from '../acceptance/caller.ts';
import { veilOf } from '../acceptance/veil.ts';
import { visibleTo } from '../acceptance/visible.ts';
import type { Kind } from '../model/kind.ts';
import { kinds } from '../model/kinds.ts';
import { Problem } from '../runtime/problem.ts';
import { refused } from './known.ts';
import { parseListQuery } from './query/parse.ts';
import { eventsStatement } from './query/read.ts';
import type { Api, Context } from './request.ts';
import { standingOf } from './standing.ts';

/** How often a stream looks for new events; the sealer puts them in order about as often. */
const lookMs = 250;
/** A comment line keeps proxies from closing a quiet stream. */
const keepAliveMs = 15_000;

/**
 * The number of the event to go on behind. Whoever names one that is yet to come has it from elsewhere, and would
 * wait without a word; who names one that is long gone would miss some. */
export function resumeAfter(given: string, newest: string, oldest = '1'): string {
  if (given === '') return newest;
  const refuse = (message: string): Problem =>
    new Problem('INVALID_ARGUMENT', `Last-Event-ID ${message}`, { violations: [{ field: 'Last-Event-ID', message }] });
  if (!/^(0|[1-9]\d{0,14})$/.test(given)) throw refuse('must be the number of an event');
  if (BigInt(given) > BigInt(newest)) throw refuse(`is ahead of the newest event, which is ${newest}`);
  if (BigInt(given) + 1n < BigInt(oldest)) throw refuse(`is behind the oldest event that is kept, which is ${oldest}`);
  return given;
}

export async function followEvents(api: Api, ctx: Context): Promise<void> {
  if (ctx.query.follow !== 'true')
    throw new Problem('INVALID_ARGUMENT', 'follow is true', {
      violations: [{ field: 'follow', message: 'must be true' }],
    });
  for (const name of Object.keys(ctx.query))
    if (name !== 'follow' && name !== 'filter') throw refused(name, 'means nothing with follow');
  const { filter } = parseListQuery(kinds.event as unknown as Kind, ctx.query, ['follow']);
  const mayFollow = (caller: Caller): boolean => scopesOf(caller, 'event.list').anywhere;
  if (!mayFollow(ctx.state.caller)) throw new Problem('FORBIDDEN', 'you need the permission event.list');
  const from = ctx.get('Last-Event-ID');
  const { rows: newest } = await api.database.pool.query<{ first: string; last: string }>(
    `SELECT coalesce(min(sequence), 1)::text AS first, coalesce(max(sequence), 0)::text AS last FROM "event"`,
  );
  let after = resumeAfter(from, newest[0]?.last ?? '0', newest[0]?.first);
  const standing = standingOf(api, ctx, mayFollow);
  ctx.respond = false;
  const { res } = ctx;
  res.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store', 'x-accel-buffering': 'no' });
  // A follower who loses this connection before the first event resumes here, not wherever the stream is then.
  res.write(`: following\nid: ${after}\n\n`);
  let quietSince = Date.now();
  standing.signal.addEventListener('abort', () => res.end());
  while (!standing.signal.aborted && !res.destroyed && !res.writableEnded) {
    const { caller } = standing;
    const { rows } = await api.database.pool
      .query<{ sequence: string; type: string; json: string }>(
        eventsStatement(after, 200, filter, visibleTo(caller, 'list')),
      )
      .catch(() => ({ rows: [] }));
    for (const row of standing.signal.aborted ? [] : rows) {
      after = row.sequence;
      const json = veilOf(caller)?.json(row.json) ?? row.json;
      if (!res.write(`id: ${row.sequence}\nevent: ${row.type}\ndata: ${json}\n\n`))
        await new Promise((resolve) => res.once('drain', resolve).once('close', resolve));
    }
    if (rows.length > 0) quietSince = Date.now();
    else if (Date.now() - quietSince > keepAliveMs) {
      res.write(': still here\n\n');
      quietSince = Date.now();
    }
    if (rows.length < 200) await new Promise((resolve) => setTimeout(resolve, lookMs));
  }
}
