/** What hosts cost that only are there, and how soon all are seen again after everything was killed. */
import { Client as TemporalClient, Connection as TemporalConnection, type WorkflowHandle } from '@temporalio/client';
import pg from 'pg';
import { instanceBody } from '../lab/provision.ts';
import { guestIdSql } from '../lab/simulated/inProcess.ts';
import { type MaintenanceName, maintenanceId } from '../model/platform/maintenance.ts';
import { type BenchCloud, hereAddress } from './cloud.ts';
import { alone, type Figure } from './figures.ts';
import { cpuSecondsUsed, eachPart, memoryUsed, moreThan, parts, sumOf } from './memory.ts';
import { asMigration, insertJoinedHosts, insertRunningInstances } from './rows.ts';

const restSeconds = 60;
const limitMs = 2_400_000;
/** Figures are told for so many, whatever was measured. */
const told = 10_000;

interface Seen {
  up: number;
  /** Changes so far, of all hosts together. */
  changes: number;
  now: Date;
}

/** How many hosts are connected, and were seen since. */
async function seen(client: pg.Client, since: Date): Promise<Seen> {
  const { rows } = await client.query<{ up: string; changes: string; now: Date }>(
    `SELECT count(*) FILTER (WHERE connection = 'connected' AND "lastSeenAt" > $1) AS up, coalesce(sum(revision), 0) AS changes, now()
     FROM "host" WHERE "deletedAt" IS NULL`,
    [since],
  );
  const [row] = rows;
  return { up: Number(row?.up), changes: Number(row?.changes), now: row?.now ?? since };
}

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** What these compare has no counterpart of instances that are rows: Ceph and OVN are simulated elsewhere. */
const withoutCounterpart: readonly MaintenanceName[] = ['scanNetwork', 'scanPools'];

/** A pause stays, also when the dispatcher begins anew. */
const pauseAudits = (temporal: TemporalClient): Promise<unknown> =>
  Promise.all(withoutCounterpart.map((name) => temporal.schedule.getHandle(maintenanceId(name)).pause()));

/** What the steps of a run have answered. */
async function answersOf(run: WorkflowHandle): Promise<Record<string, unknown>[]> {
  const { events } = await run.fetchHistory();
  return (events ?? []).flatMap(({ activityTaskCompletedEventAttributes: ended }) =>
    (ended?.result?.payloads ?? []).map(({ data }) => JSON.parse(Buffer.from(data ?? []).toString() || '{}')),
  );
}

interface Round {
  seconds: number;
  /** Hosts that could not be asked. */
  unanswered: number;
}

/** Of the first round of the auditor that has begun since and has ended; null when none has. */
async function auditorRound(temporal: TemporalClient, since: Date): Promise<Round | null> {
  const { info } = await temporal.schedule.getHandle(maintenanceId('scanHosts')).describe();
  for (const { action, takenAt } of info.recentActions) {
    if (takenAt < since) continue;
    const { workflowId, firstExecutionRunId } = action.workflow;
    const run = temporal.workflow.getHandle(workflowId, firstExecutionRunId);
    const { startTime, closeTime } = await run.describe();
    if (!closeTime) return null;
    const unanswered = (await answersOf(run)).reduce((sum, answer) => sum + Number(answer.unanswered ?? 0), 0);
    return { seconds: (closeTime.getTime() - startTime.getTime()) / 1_000, unanswered };
  }
  return null;
}

export interface ScaleOptions {
  count: number;
  /** Instances on each host, which then is in the process of its worker; otherwise hosts have none, and connections of their own. */
  perHost?: number;
}

/** Those that are missing join as rows: to add each through the API would take longer than all the rest. */
export async function hostsScale(
  { stack, cloud }: BenchCloud,
  { count, perHost = 0 }: ScaleOptions,
  log: (line: string) => void,
): Promise<Figure[]> {
  const isHere = perHost > 0;
  const name = isHere ? 'hosts.scale.here' : 'hosts.scale';
  const connect = async (): Promise<pg.Client> => {
    const client = new pg.Client({ connectionString: stack.databaseUrl });
    // It ends with PostgreSQL.
    client.on('error', () => {});
    await client.connect();
    return client;
  };
  let client = await connect();
  const wire = await TemporalConnection.connect({ address: stack.temporalAddress });
  const temporal = new TemporalClient({ connection: wire, namespace: 'belay' });

  /** Asks again and again until there is an answer. */
  async function until<Answer>(ask: () => Promise<Answer | null>, missing: () => string): Promise<Answer> {
    // To look at all of them takes its time, too.
    for (const end = performance.now() + limitMs; performance.now() < end; await sleep(Math.max(500, count / 50))) {
      const answer = await ask();
      if (answer !== null) return answer;
    }
    throw new Error(missing());
  }

  /** Answers how many seconds after it began all were seen since. */
  async function untilSeen(since: Date, began: number): Promise<number> {
    let up = 0;
    const ask = async (): Promise<number | null> => {
      try {
        ({ up } = await seen(client, since));
      } catch {
        client = await connect().catch(() => client);
      }
      return up < count ? null : (performance.now() - began) / 1_000;
    };
    return until(ask, () => `${up} of ${count} hosts are seen`);
  }

  /** Hosts have what is recorded of them: nobody doubts it, and nothing else was found. */
  async function nothingFound(): Promise<void> {
    const { rows } = await client.query(
      `SELECT (SELECT count(*) FROM "hostClaim" WHERE "doubtedAt" IS NOT NULL) AS doubted,
         (SELECT count(*) FROM "finding" WHERE system = 'libvirt' AND "deletedAt" IS NULL) AS found`,
    );
    const [{ doubted, found }] = rows;
    if (doubted !== '0' || found !== '0') throw new Error(`${doubted} guests are doubted, ${found} differ`);
  }

  /** All at once: whoever looks at a host looks at its guests, too. Answers when they were there. */
  async function insert(likeId: string, address: string): Promise<number> {
    const like = isHere ? await cloud.tenant.done('POST', '/v1/instances', instanceBody(cloud, 'first')) : null;
    await asMigration(client, async () => {
      await insertJoinedHosts(client, { likeId, from: cloud.hosts.length, to: count - 1, address });
      if (!like) return;
      await insertRunningInstances(client, {
        likeId: like.targetId ?? '',
        perHost,
        at: address,
        id: guestIdSql,
        unguarded: true,
      });
      // What was changed is looked for by the time, and this took its time.
      await client.query('UPDATE "host" SET "updatedAt" = clock_timestamp() WHERE starts_with(address, $1)', [address]);
    });
    const there = performance.now();
    if (!isHere) return there;
    // As it would be done within minutes.
    await client.query('ANALYZE');
    await client.query('CHECKPOINT');
    return there;
  }

  try {
    const [one] = cloud.hosts;
    if (!one) throw new Error('there are no hosts');
    if (isHere) await pauseAudits(temporal);
    const atFirst = cpuSecondsUsed(stack);
    await sleep(restSeconds * 1_000);
    const idle = moreThan(atFirst, cpuSecondsUsed(stack));
    const without = memoryUsed(stack);
    const { now: empty } = await seen(client, new Date(0));
    const writing = performance.now();
    const there = await insert(one.id, isHere ? hereAddress : String(one.address).replace(/\d+$/, ''));
    log(`written in ${((there - writing) / 1_000).toFixed(0)} s`);
    const firstSeconds = await untilSeen(empty, there);
    log(`${count} hosts seen for the first time after ${firstSeconds.toFixed(1)} s`);

    // All are measured for the first time.
    if (isHere) await sleep(restSeconds * 1_000);
    const began = await seen(client, new Date(0));
    const cpuBefore = cpuSecondsUsed(stack);
    await sleep(restSeconds * 1_000);
    const used = moreThan(cpuBefore, cpuSecondsUsed(stack));
    const rested = await seen(client, new Date(0));
    if (rested.changes !== began.changes || rested.up !== count)
      throw new Error(
        `of ${count} hosts at rest ${rested.up} are connected, with ${rested.changes - began.changes} changes`,
      );
    const memory = moreThan(without, memoryUsed(stack));
    const percent = moreThan(idle, used);
    for (const part of parts) percent[part] *= 100 / restSeconds;
    log(`at rest: MiB ${eachPart(memory)}; % of a core ${eachPart(percent, 1)}`);
    if (isHere) await nothingFound();
    const { now: before } = await seen(client, new Date(0));
    await client.end();

    const killed = performance.now();
    await Promise.all(parts.map((part) => stack.kill(part)));
    const seconds = await untilSeen(before, killed);
    log(`all seen again after ${seconds.toFixed(1)} s`);
    const { now: again } = await seen(client, new Date(0));
    const audited = await until(
      // Temporal, too, has just been started anew.
      () => auditorRound(temporal, again).catch(() => null),
      () => 'the auditor has not come round',
    );
    if (audited.unanswered > 0) throw new Error(`the auditor could not ask ${audited.unanswered} of ${count} hosts`);
    log(`a round of the auditor took ${audited.seconds.toFixed(1)} s`);
    if (isHere) await nothingFound();
    const each = told / (count - cloud.hosts.length);
    const note = isHere
      ? `${count} simulated hosts with ${perHost} instances each, in the processes of ${stack.pids('host').length} workers, told for ${told} hosts`
      : `${count} simulated hosts with a connection each, told for ${told}`;
    return [
      alone(
        `${name}.memory`,
        sumOf(memory) * each,
        'MiB',
        null,
        `proportional, above what the parts have with ${cloud.hosts.length} hosts; ${note}. In all: ${eachPart(memory)}`,
      ),
      alone(
        `${name}.cpu`,
        sumOf(percent) * each,
        '% of a core',
        null,
        `of all parts at rest for ${restSeconds} s, in which no host changed, above what they take with ${cloud.hosts.length} hosts; ${note}. In all: ${eachPart(percent, 1)}`,
      ),
      alone(`${name}.first`, firstSeconds, 's', null, `until all ${count} hosts were seen for the first time`),
      alone(`${name}.audit`, audited.seconds, 's', null, `for one round of the auditor over ${count} hosts`),
      alone(
        `${name}.restart`,
        seconds,
        's',
        count > told ? null : { atMost: 60 },
        `from kill -9 of every part until all ${count} hosts were seen again`,
      ),
    ];
  } finally {
    await client.end().catch(() => {});
    await wire.close();
  }
}
