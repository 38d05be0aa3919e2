/**
 * Reads by id, many in one statement: what is asked while others are under way is gathered and asked for together. A read that
 * comes alone goes out at once; under load a row costs a fraction of a round trip.
 */
import type pg from 'pg';
import type { Visible } from '../../acceptance/visible.ts';
import type { Kind } from '../../model/kind.ts';
import { type GetOptions, type GotRow, getStatement } from './read.ts';

/** Statements of one caller, kind and shape at a time. Two keep PostgreSQL busy while answers are on their way. */
const inFlightMax = 2;
const idsMax = 100;

interface Gathering {
  waiting: Map<
    string,
    { promise: Promise<GotRow | null>; settle(row: GotRow | null): void; fail(error: unknown): void }
  >;
  inFlight: number;
  planned: boolean;
}

type ByShape = Map<string, Gathering>;

const gatheringsOfPool = new WeakMap<pg.Pool, WeakMap<Visible, ByShape>>();

function gatheringOf(pool: pg.Pool, kind: Kind, { visible, fields, showDeleted = false }: GetOptions): Gathering {
  const byVisible = known(gatheringsOfPool, pool, () => new WeakMap<Visible, ByShape>());
  const byShape = known(byVisible, visible, (): ByShape => new Map());
  const shape = `${kind.name} ${showDeleted} ${fields?.join() ?? ''}`;
  return known(byShape, shape, () => ({ waiting: new Map(), inFlight: 0, planned: false }));
}

function known<Key, Value>(
  map: { get(key: Key): Value | undefined; set(key: Key, value: Value): unknown },
  key: Key,
  make: () => Value,
): Value {
  let value = map.get(key);
  if (value === undefined) {
    value = make();
    map.set(key, value);
  }
  return value;
}

async function ask(pool: pg.Pool, kind: Kind, gathering: Gathering, options: GetOptions): Promise<void> {
  gathering.planned = false;
  const taken = new Map([...gathering.waiting].slice(0, idsMax));
  for (const id of taken.keys()) gathering.waiting.delete(id);
  gathering.inFlight += 1;
  plan(pool, kind, gathering, options);
  try {
    const { rows } = await pool.query<GotRow>(getStatement(kind, [...taken.keys()], options));
    for (const row of rows) {
      taken.get(row.id)?.settle(row);
      taken.delete(row.id);
    }
    for (const { settle } of taken.values()) settle(null);
  } catch (error) {
    for (const { fail } of taken.values()) fail(error);
  } finally {
    gathering.inFlight -= 1;
    plan(pool, kind, gathering, options);
  }
}

function plan(pool: pg.Pool, kind: Kind, gathering: Gathering, options: GetOptions): void {
  if (gathering.planned || gathering.waiting.size === 0 || gathering.inFlight >= inFlightMax) return;
  gathering.planned = true;
  // After all requests that this turn of the event loop brings.
  setImmediate(() => void ask(pool, kind, gathering, options));
}

/** The row of an id (lowercase), or null when there is none or the caller may not see it. As fresh as a statement of its own. */
export function readById(pool: pg.Pool, kind: Kind, id: string, options: GetOptions): Promise<GotRow | null> {
  const gathering = gatheringOf(pool, kind, options);
  // One that was not sent yet answers for this one too.
  const same = gathering.waiting.get(id);
  if (same) return same.promise;
  let settle: (row: GotRow | null) => void = () => {};
  let fail: (error: unknown) => void = () => {};
  const promise = new Promise<GotRow | null>((resolve, reject) => {
    settle = resolve;
    fail = reject;
  });
  gathering.waiting.set(id, { promise, settle, fail });
  plan(pool, kind, gathering, options);
  return promise;
}
