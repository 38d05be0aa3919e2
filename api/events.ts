/** The event stream: server-sent events (WHATWG HTML 9.2), resumable by `Last-Event-ID`. */

import { type Caller, scopesOf } from '../acceptance/caller.ts';
import { veilOf } from '../acceptance/veil.ts';
import { visibleTo } from '../acceptance/visible.ts';
import type { Database } from '../database/database.ts';
import { endsOfEvents } from '../database/events.ts';
import type { Statement } from '../database/sql.ts';
import type { Kind } from '../model/kind.ts';
import { kinds } from '../model/kinds.ts';
import { Problem } from '../runtime/problem.ts';
import { refused } from './known.ts';
import { refuseCostly } from './query/budget.ts';
import { parseListQuery } from './query/parse.ts';
import { eventsStatement } from './query/read.ts';
import type { Api, Context } from './request.ts';
import { standingOf } from './standing.ts';
import { turnsOf } from './turns.ts';

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

/** Of one look at most. */
const atOnce = 200;

/** Numbers of the oldest and of the newest event that there is. */
async function endsOf({ connections }: Database): Promise<{ first: string; last: string }> {
  const [row] = await endsOfEvents(connections);
  return row ?? { first: '1', last: '0' };
}

const looks = new WeakMap<Database, { at: number; newest: Promise<string> }>();

/** The number of the newest event, looked up once for all streams: a thousand that hear nothing cost what one does. */
function newestEvent(database: Database): Promise<string> {
  const known = looks.get(database);
  if (known && Date.now() - known.at < lookMs / 2) return known.newest;
  const newest = endsOf(database).then(({ last }) => last);
  looks.set(database, { at: Date.now(), newest });
  return newest;
}

/** Followers of one account read one after the other: what a filter costs, its own streams wait for. */
const readers = turnsOf(1);

interface Told {
  sequence: string;
  type: string;
  json: string;
}

/** Null while the database can not be asked, or found no time. */
async function eventsOf(api: Api, { accountId }: Caller, statementNow: () => Statement): Promise<Told[] | null> {
  const done = await readers.take(accountId);
  try {
    return (await api.open.connections.query<Told>(statementNow())).rows;
  } catch {
    return null;
  } finally {
    done();
  }
}

export async function followEvents(api: Api, ctx: Context): Promise<void> {
  if (ctx.query.follow !== 'true')
    throw new Problem('INVALID_ARGUMENT', 'follow is true', {
      violations: [{ field: 'follow', message: 'must be true' }],
    });
  for (const name of Object.keys(ctx.query))
    if (name !== 'follow' && name !== 'filter') throw refused(name, 'means nothing with follow');
  const { filter, hops } = parseListQuery(kinds.event as unknown as Kind, ctx.query, ['follow']);
  const mayFollow = (caller: Caller): boolean => scopesOf(caller, 'event.list').anywhere;
  if (!mayFollow(ctx.state.caller)) throw new Problem('FORBIDDEN', 'you need the permission event.list');
  const { first, last: newest } = await endsOf(api.open);
  let after = resumeAfter(ctx.get('Last-Event-ID'), newest, first);
  const standing = standingOf(api, ctx, 'stream', mayFollow);
  const { connections } = api.open;
  const statementFrom = (place: string) => eventsStatement(place, atOnce, filter, visibleTo(standing.caller, 'list'));
  await refuseCostly(connections, { hops }, statementFrom('0'));
  ctx.respond = false;
  const { res } = ctx;
  res.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store', 'x-accel-buffering': 'no' });
  // A follower who loses this connection before the first event resumes here, not wherever the stream is then.
  res.write(`: following\nid: ${after}\n\n`);
  let quietSince = Date.now();
  standing.signal.addEventListener('abort', () => res.end());
  while (!standing.signal.aborted && !res.destroyed && !res.writableEnded) {
    // Whoever follows goes on elsewhere, behind the last that it has heard.
    if (api.node?.isDraining()) {
      res.end();
      return;
    }
    const last = await newestEvent(api.open).catch(() => after);
    // With the rights of the moment at which it is its turn.
    const rows = BigInt(last) > BigInt(after) ? await eventsOf(api, standing.caller, () => statementFrom(after)) : [];
    for (const row of standing.signal.aborted ? [] : (rows ?? [])) {
      after = row.sequence;
      const json = veilOf(standing.caller)?.json(row.json) ?? row.json;
      if (!res.write(`id: ${row.sequence}\nevent: ${row.type}\ndata: ${json}\n\n`))
        await new Promise((resolve) => res.once('drain', resolve).once('close', resolve));
    }
    // What its filter passed over is not looked at again.
    if (rows && rows.length < atOnce && BigInt(last) > BigInt(after)) after = last;
    if (rows && rows.length > 0) quietSince = Date.now();
    else if (Date.now() - quietSince > keepAliveMs) {
      res.write(': still here\n\n');
      quietSince = Date.now();
    }
    if (!rows || rows.length < atOnce) await new Promise((resolve) => setTimeout(resolve, lookMs));
  }
}
