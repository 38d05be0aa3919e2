/** The processes of the control plane, as each of them says that it lives. */
import os from 'node:os';
import { kindOf } from '../model/kinds.ts';
import { beatSeconds, type controlRoles, lostAfterSeconds } from '../model/platform/controlNode.ts';
import { config } from '../runtime/config.ts';
import type { Log } from '../runtime/log.ts';
import { release } from '../runtime/release.ts';
import { type Database, insertAll, transaction } from './database.ts';
import { eventRow, toldColumns } from './events.ts';
import { from, now, secondsAgo, statement, type ValueOf, type Values, written } from './statement.ts';

export type ControlRole = (typeof controlRoles)[number];
type State = ValueOf<'controlNode', 'state'>;

/** One that nobody has removed is forgotten after so long. */
const rememberedSeconds = 7 * 86_400;

export const register = statement(
  (p: Values<{ id: string; name: string; role: ControlRole; address: string; version: string }>) =>
    from
      .insertInto('controlNode')
      .values({
        id: p.id,
        name: p.name,
        state: 'up',
        role: p.role,
        address: p.address,
        version: p.version,
        startedAt: now,
        lastHeartbeatAt: now,
        load: 0,
      })
      .onConflict((at) => at.column('id').doNothing()),
);

/**
 * It lives, and learns what is asked of it, and whether it was heard until now. No index and no revision changes, so that this costs next to nothing. One that was
 * taken for lost, because it or the database was away, is what it was before: what was asked of it still is. One that was forgotten meanwhile gets no row.
 */
export const beat = written<{ state: State; wasHeard: boolean }, { id: string; load: number }>(
  `UPDATE "controlNode" node SET "lastHeartbeatAt" = now(), load = $load, "stateBefore" = NULL,
     state = CASE WHEN node.state = 'lost' THEN coalesce(node."stateBefore", 'up') ELSE node.state END
   FROM (SELECT id, "lastHeartbeatAt" FROM "controlNode" WHERE id = $id) last
   WHERE node.id = last.id AND node."deletedAt" IS NULL
   RETURNING node.state, coalesce(last."lastHeartbeatAt" > now() - make_interval(secs => ${lostAfterSeconds}), FALSE) AS "wasHeard"`,
);

const told = toldColumns(kindOf('controlNode'));
export const noteDrained = written<Record<string, unknown>, { id: string }>(
  `UPDATE "controlNode" SET state = 'drained', revision = revision + 1, "updatedAt" = now()
   WHERE id = $id AND state = 'draining' AND "deletedAt" IS NULL RETURNING ${told}`,
);
export const noteLost = written<Record<string, unknown>, { seconds: number }>(
  `UPDATE "controlNode" SET state = 'lost', "stateBefore" = state, revision = revision + 1, "updatedAt" = now()
   WHERE state <> 'lost' AND "lastHeartbeatAt" < now() - make_interval(secs => $seconds) AND "deletedAt" IS NULL RETURNING ${told}`,
);

const forget = statement((p: Values<{ id: string }>) =>
  from
    .updateTable('controlNode')
    .set((eb) => ({ deletedAt: now, updatedAt: now, revision: eb('revision', '+', 1) }))
    .where('id', '=', p.id)
    .where('deletedAt', 'is', null),
);

const forgetOld = statement(() =>
  from
    .updateTable('controlNode')
    .set((eb) => ({ deletedAt: now, updatedAt: now, revision: eb('revision', '+', 1) }))
    .where('state', '=', 'lost')
    .where('lastHeartbeatAt', '<', secondsAgo(rememberedSeconds))
    .where('deletedAt', 'is', null),
);

export const othersUp = statement((p: Values<{ role: ControlRole; except: string }>) =>
  from
    .selectFrom('controlNode')
    .select('id')
    .where('role', '=', p.role)
    .where('state', '=', 'up')
    .where('id', '<>', p.except)
    .where('lastHeartbeatAt', '>', secondsAgo(lostAfterSeconds))
    .where('deletedAt', 'is', null)
    .limit(1),
);

/** Until the transaction ends nobody else asks whether the last of a role is drained. */
export const lockRole = written<never, { role: string }>(
  `SELECT pg_advisory_xact_lock(hashtextextended('controlNode/' || $role, 1))`,
);

export const countedNodes = statement(() =>
  from
    .selectFrom('controlNode')
    .select((eb) => ['role', 'state', eb.fn.countAll<string>().as('count')])
    .where('deletedAt', 'is', null)
    .groupBy(['role', 'state']),
);

const eventOf = (what: 'drained' | 'lost', row: Record<string, unknown>): Record<string, unknown> =>
  eventRow({
    type: `controlNode.${what}`,
    severity: what === 'lost' ? 'warning' : 'info',
    resourceKind: 'controlNode',
    resourceId: String(row.id),
    projectId: null,
    payload: row,
  });

/** What a process does about it: until it is asked to drain, until it may take work again. */
export interface ControlNode {
  /** It takes nothing new while this is so. */
  isDraining(): boolean;
  /** Resolves when the answer to `isDraining` is another. */
  changed(): Promise<void>;
  /** All that it had begun has ended. Nothing happens unless it is draining. Never rejects: what could not be noted is noted later. */
  drained(): Promise<void>;
  /** It ends, and is no node any more. */
  leave(): Promise<void>;
}

/** Registers this process, and keeps it registered until it leaves. A database that is away is waited for. */
export function joinControlPlane(
  database: Database,
  log: Log,
  { role, address = os.hostname() }: { role: ControlRole; address?: string },
): ControlNode {
  let id = crypto.randomUUID();
  let isRegistered = false;
  let draining = false;
  let left = false;
  /** It is draining, and all has ended. */
  let isDone = false;
  /** So many times in a row it was heard in time. */
  let heard = 0;
  let wake: () => void = () => {};
  let changed = new Promise<void>((resolve) => {
    wake = resolve;
  });
  let usage = process.cpuUsage();
  let usedAt = performance.now();

  function load(): number {
    const { user, system } = process.cpuUsage(usage);
    const elapsedMs = performance.now() - usedAt;
    usage = process.cpuUsage();
    usedAt = performance.now();
    return Math.round((100 * (user + system)) / 1000 / Math.max(1, elapsedMs)) / 100;
  }

  function learn(state: State): void {
    const asked = state === 'draining' || state === 'drained';
    if (asked === draining) return;
    draining = asked;
    isDone = false;
    log.info(asked ? 'draining: nothing new is taken' : 'taking work again');
    wake();
    changed = new Promise((resolve) => {
      wake = resolve;
    });
  }

  async function sayThatItLives(): Promise<void> {
    if (!isRegistered) {
      await register(database.connections, { id, name: config.processName, role, address, version: release });
      isRegistered = true;
    }
    const [row] = await beat(database.connections, { id, load: load() });
    if (row) learn(row.state);
    // Somebody took it for lost and has removed it.
    else if (!left) {
      id = crypto.randomUUID();
      isRegistered = false;
    }
    if (isDone && row?.state === 'draining') await sayThatItIsDrained();
    heard = row?.wasHeard ? heard + 1 : 0;
    // Who was cut off itself, or the database was, gives the others as long to be heard again as they may be silent.
    if (heard * beatSeconds >= lostAfterSeconds) await judge();
    await forgetOld(database.connections);
  }

  const sayThatItIsDrained = (): Promise<void> =>
    transaction(database, async (tx) => {
      const [row] = await noteDrained(tx, { id });
      if (row) await insertAll(tx, { event: [eventOf('drained', row)] });
    });

  const judge = (): Promise<void> =>
    transaction(database, async (tx) => {
      const lost = await noteLost(tx, { seconds: lostAfterSeconds });
      if (lost.length > 0) await insertAll(tx, { event: lost.map((one) => eventOf('lost', one)) });
    });

  async function again(): Promise<void> {
    while (!left) {
      await sayThatItLives().catch((error: unknown) =>
        log.warn({ error: String(error) }, 'could not tell that this process lives'),
      );
      await new Promise((resolve) => setTimeout(resolve, beatSeconds * 1_000).unref());
    }
  }
  void again();

  return {
    isDraining: () => draining,
    changed: () => changed,
    async drained() {
      isDone = draining;
      if (isDone)
        await sayThatItIsDrained().catch((error: unknown) =>
          log.warn({ error: String(error) }, 'could not note that it is drained'),
        );
    },
    async leave() {
      left = true;
      await forget(database.connections, { id }).catch(() => {});
    },
  };
}
