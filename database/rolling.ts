/** What is done to all hosts of a cluster: which it is about, and what one before has left. */
import type { Queryable } from './database.ts';
import { from, statement, type Values } from './statement.ts';

/** What of a cluster is one at a time: each of them would undo what the other reckons with. */
const ofWhole = ['cluster.rollingMaintenance', 'cluster.rebalance'];

/** One at a time says it for the others, too. */
export const lockCluster = statement((p: Values<{ clusterId: string }>) =>
  from.selectFrom('cluster').select('id').where('id', '=', p.clusterId).where('deletedAt', 'is', null).forNoKeyUpdate(),
);

export const atWorkOnCluster = statement((p: Values<{ clusterId: string }>) =>
  from
    .selectFrom('operation')
    .select(['id', 'type'])
    .where('targetId', '=', p.clusterId)
    .where('type', 'in', ofWhole)
    .where('endedAt', 'is', null)
    .limit(1),
);

const hostsOf = statement((p: Values<{ clusterId: string }>) =>
  from
    .selectFrom('host')
    .select((eb) => ['id', 'name', 'state', 'connection', 'fault', eb('bmc', 'is not', null).as('hasBmc')])
    .where('clusterId', '=', p.clusterId)
    .where('deletedAt', 'is', null)
    .orderBy('name')
    .orderBy('id'),
);

/** So far back is looked for where a round began that was broken off again and again. */
const roundsMost = 20;

/** The schedule of whose run an operation is a part, or is that run itself. */
const scheduleOf = statement((p: Values<{ operationId: string }>) =>
  from
    .selectFrom('operation as run')
    .select('run.targetId')
    .where('run.type', '=', 'schedule.runNow')
    .where((eb) =>
      eb.or([
        eb('run.id', '=', p.operationId),
        eb(
          'run.id',
          '=',
          eb.selectFrom('operation as part').select('part.parentOperationId').where('part.id', '=', p.operationId),
        ),
      ]),
    ),
);

/** How the last ones ended that the schedule has begun, or else those of no schedule; the last one first. */
const lastOf = statement((p: Values<{ clusterId: string; scheduleId: string | null }>) =>
  from
    .selectFrom('operation as o')
    .leftJoin('operation as run', (join) =>
      join.onRef('run.id', '=', 'o.parentOperationId').on('run.type', '=', 'schedule.runNow'),
    )
    .select(['o.id', 'o.input', 'o.result', 'o.error'])
    .where('o.targetId', '=', p.clusterId)
    .where('o.type', '=', 'cluster.rollingMaintenance')
    .where('o.endedAt', 'is not', null)
    .where('o.startedAt', 'is not', null)
    .where('run.targetId', 'is not distinct from', p.scheduleId)
    .orderBy('o.endedAt', 'desc')
    .limit(roundsMost),
);

const maintainedIn = statement((p: Values<{ operationId: string }>) =>
  from
    .selectFrom('operation')
    .select('targetId')
    .where('parentOperationId', '=', p.operationId)
    .where('type', '=', 'host.maintain')
    .where('state', '=', 'succeeded'),
);

export interface Rolling {
  clusterId: string;
  order?: string[] | null | undefined;
  goesOn?: boolean | undefined;
  /** They are made to start anew by their BMCs. */
  byBmc?: boolean | undefined;
  /** The operation itself, or the one above it before it is there: it goes on with what others of its schedule have left. */
  operationId?: string | null | undefined;
}

/** So many have their turn in one run: each is an operation of its own. The others are left for the next. */
export const mostHosts = 1_000;

export interface RollingPlan {
  /** In the order in which they have their turns. */
  hosts: { id: string; name: string }[];
  /** They are left alone, and why. */
  skipped: { hostId: string; hostName: string; reason: string }[];
  /** They are there, and have no turn in this run: what is skipped, and what is too much for one run. */
  left: string[];
  /** Of those that were named. */
  unknown: string[];
}

/**
 * Those that the last one has left; null where it has left none, or there was none. One that was cancelled says what it has done, and not what it has left: that
 * follows from what it was about, which may be what one before has left.
 */
async function leftByLast(
  on: Queryable,
  { clusterId, operationId }: Rolling,
  all: readonly string[],
): Promise<readonly string[] | null> {
  const [schedule] = operationId ? await scheduleOf(on, { operationId }) : [];
  const last = await lastOf(on, { clusterId, scheduleId: schedule?.targetId ?? null });
  let left: readonly string[] | null = null;
  for (const { id, input, result, error } of last.reverse()) {
    const { order, goesOn } = input as { order?: string[] | null; goesOn?: boolean };
    const told = ((result ?? error ?? {}) as { left?: string[] }).left;
    const about: readonly string[] = (goesOn ? left : null) ?? order ?? all;
    const done = told ? null : new Set((await maintainedIn(on, { operationId: id })).map(({ targetId }) => targetId));
    left = told ?? about.filter((one) => !done?.has(one));
    if (left.length === 0) left = null;
  }
  return left;
}

interface Fitness {
  state: string;
  connection: string;
  fault: unknown;
  hasBmc: unknown;
}

const reasonToSkip = (host: Fitness, byBmc: boolean | undefined): string | null => {
  if (host.fault) return 'it is held by a stuck operation';
  if (host.state !== 'active') return `it is ${host.state}`;
  if (byBmc && !host.hasBmc) return 'it has no BMC';
  return host.connection === 'connected' ? null : `it is ${host.connection}`;
};

/** Where none of what is left can be done now, a new round begins: one host that stays away would otherwise keep all others from theirs. */
export async function planRolling(on: Queryable, asked: Rolling): Promise<RollingPlan> {
  const { clusterId, order, goesOn, byBmc } = asked;
  const all = await hostsOf(on, { clusterId });
  const byId = new Map(all.map((host) => [host.id, host]));
  const named = order ?? all.map(({ id }) => id);
  const left = goesOn
    ? await leftByLast(
        on,
        asked,
        all.map(({ id }) => id),
      )
    : null;
  const isLeft = new Set(left ?? []);
  const goesOnWith = named.filter((id) => isLeft.has(id));
  const isFit = (id: string): boolean => {
    const host = byId.get(id);
    return host !== undefined && reasonToSkip(host, byBmc) === null;
  };
  const plan: RollingPlan = { hosts: [], skipped: [], left: [], unknown: named.filter((id) => !byId.has(id)) };
  for (const id of goesOnWith.some(isFit) ? goesOnWith : named) {
    const host = byId.get(id);
    if (!host) continue;
    const reason = reasonToSkip(host, byBmc);
    if (reason === null && plan.hosts.length < mostHosts) {
      plan.hosts.push({ id, name: host.name });
      continue;
    }
    plan.left.push(id);
    if (reason !== null) plan.skipped.push({ hostId: id, hostName: host.name, reason });
  }
  return plan;
}
