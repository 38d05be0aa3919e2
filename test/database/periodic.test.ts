/** What is asked again and again reads no more of a cloud that is four times as large, unless it is said here why. */
import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { cleanCaches } from '../../activities/platform/caches.ts';
import { renewHostCertificates } from '../../activities/platform/certificates.ts';
import { releaseForgotten } from '../../activities/platform/forgotten.ts';
import { rotateCredentials } from '../../activities/platform/hostCredentials.ts';
import { restartLost } from '../../activities/platform/lost.ts';
import { forgetOldAnswers, forgetTombstones } from '../../activities/platform/old.ts';
import { endOverdue } from '../../activities/platform/overdue.ts';
import { scanRisks } from '../../activities/platform/risks.ts';
import type { World } from '../../activities/world.ts';
import { asMigration, insertJoinedHosts, insertRunningInstances } from '../../bench/rows.ts';
import {
  atHomeOn,
  firstToScan,
  guestsBesideRecords,
  hostsToScan,
  poolsToScan,
  recordedPorts,
  toRepair,
} from '../../database/audit.ts';
import { countedNodes } from '../../database/controlNodes.ts';
import { type Database, openDatabase } from '../../database/database.ts';
import {
  awayHosts,
  changedHosts,
  noteHealth,
  patienceOfClusters,
  silentHost,
  watchedHosts,
  zoneHeard,
  zonesSaidSilent,
} from '../../database/detection.ts';
import { seeAll, seenNoMore } from '../../database/findings.ts';
import { leaseShards, makeShards, noteConnected, noteConnection, tellShards } from '../../database/leases.ts';
import { giveWayToForced, stuckWhereHostsAnswer } from '../../database/operations.ts';
import { countSilentBmcs, hostsWithBmc } from '../../database/power.ts';
import { readyOperations } from '../../database/queue.ts';
import { shardCount, shardOf } from '../../model/shards.ts';
import type { Log } from '../../runtime/log.ts';
import { countFindings } from '../../workers/findings.ts';
import { takeDoubted } from '../../workers/observer.ts';
import { countPoolPromises } from '../../workers/pools.ts';
import { type Scene, setScene } from '../support/scene.ts';

const holder = 'worker#1';
const shards = Array.from({ length: shardCount }, (_, shard) => shard);
const small = Number(process.env.BELAY_TEST_HOSTS ?? 800) / 4;
const perHost = 10;
const few = 5;
const nobody: Log = Object.assign(() => {}, { info() {}, warn() {}, error() {}, debug() {} }) as unknown as Log;

let scene: Scene;
let client: pg.Client;
let database: Database;
let hostId: string;

/** Blocks and rows read by each statement, and how long it took. */
interface Cost {
  text: string;
  blocks: number;
  rows: number;
  ms: number;
}
let costs: Cost[] = [];

interface Plan {
  'Relation Name'?: string;
  'Actual Rows': number;
  'Actual Loops': number;
  'Rows Removed by Filter'?: number;
  Plans?: Plan[];
}

/** Of tables and their indexes: a thousand rows of an index are few blocks. */
function rowsRead(plan: Plan): number {
  const below = (plan.Plans ?? []).reduce((total, one) => total + rowsRead(one), 0);
  if (!plan['Relation Name']) return below;
  return below + (plan['Actual Rows'] + (plan['Rows Removed by Filter'] ?? 0)) * plan['Actual Loops'];
}

function literal(value: unknown): string {
  if (value === null || value === undefined) return 'NULL';
  if (Array.isArray(value)) return pg.escapeLiteral(`{${value.map((one) => `"${one}"`).join(',')}}`);
  return pg.escapeLiteral(value instanceof Date ? value.toISOString() : String(value));
}

/** Asks as workers do, by a plan that is made once for all values, and notes what each statement reads. What it would change is taken back. */
function watched(on: Database): Database {
  const ask = async (config: { text: string; values?: unknown[] }): Promise<pg.QueryResult> => {
    const values = (config.values ?? []).map((value) => literal(value));
    await client.query('BEGIN');
    await client.query(`PREPARE asked AS ${config.text}`);
    const execute = `EXECUTE asked${values.length > 0 ? ` (${values.join(', ')})` : ''}`;
    const { rows } = await client.query(`EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) ${execute}`);
    await client.query('ROLLBACK; DEALLOCATE asked');
    const [{ Plan: plan, 'Execution Time': ms }] = rows[0]['QUERY PLAN'];
    const blocks = plan['Shared Hit Blocks'] + plan['Shared Read Blocks'];
    costs.push({ text: config.text, blocks, rows: rowsRead(plan), ms });
    return on.connections.query(config);
  };
  const connections = new Proxy(on.connections, {
    get: (target, key) => (key === 'query' ? ask : Reflect.get(target, key, target)),
  });
  return { ...on, connections };
}

async function costOf(work: (on: Database) => Promise<unknown>): Promise<Cost[]> {
  costs = [];
  await work(watched(database));
  return costs;
}

const connections = (on: Database) => on.connections;

const asked: Record<string, (on: Database) => Promise<unknown>> = {
  // Every second or two, of each host worker.
  'changed hosts': (on) => changedHosts(connections(on), { shards }),
  'hosts away': (on) => awayHosts(connections(on), { shards }),
  'patience of clusters': (on) => patienceOfClusters(connections(on)),
  'telling shards': (on) => tellShards(connections(on), { shards, holder }),
  'renewing leases': (on) => leaseShards(connections(on), { holder, leaseSeconds: 3600 }),
  'doubted guests': (on) => takeDoubted(connections(on), { shards }),
  'silent zones': (on) => zonesSaidSilent(connections(on)),
  // Of each silent host.
  'a host is connected': (on) => noteConnected(connections(on), { ids: [hostId, scene.ids.host ?? ''], holder }),
  'a host is not': (on) =>
    noteConnection(connections(on), { hostId, connection: 'disconnected', shard: shardOf(hostId), holder }),
  'a silent host': (on) => silentHost(connections(on), { hostId }),
  'a host of a silent zone': (on) =>
    noteHealth(connections(on), { hostId, health: 'unreachable', reason: '', shard: shardOf(hostId), holder }),
  'nothing of a host': (on) => seenNoMore(connections(on), { resourceKind: 'host', resourceIds: [hostId] }),
  // The dispatcher.
  'ready operations': readyOperations,
  'stuck operations': (on) => stuckWhereHostsAnswer(connections(on)),
  'giving way': (on) => giveWayToForced(connections(on)),
  'counting findings': countFindings,
  'counting nodes': (on) => countedNodes(connections(on)),
  // Schedules.
  'first hosts of shards': (on) => firstToScan(connections(on)),
  'a page of hosts': (on) =>
    hostsToScan(connections(on), { shard: 5, from: '00000000-0000-0000-0000-000000000000', most: 5 }),
  'guests of a host': (on) => guestsBesideRecords(connections(on), { hostId, guests: '[]' }),
  'what a host was seen with': (on) =>
    seeAll(connections(on), { system: 'libvirt', location: hostId, what: ['guest'], since: new Date() }, [], []),
  'a guest at home': (on) => atHomeOn(connections(on), { instanceId: hostId, hostId }),
  'pools to scan': (on) => poolsToScan(connections(on)),
  'a page of interfaces': (on) => recordedPorts(connections(on), { after: 'ffffffff-0000-0000-0000-000000000000' }),
  'what to repair': (on) => toRepair(connections(on), { systems: ['libvirt'] }),
  'lost instances': restartLost,
  'instances past recovery': (on) => endOverdue(on, 'instance', null),
  'volumes past recovery': (on) => endOverdue(on, 'volume', null),
  'snapshots past their end': (on) => endOverdue(on, 'snapshot', null),
  'images that never came': (on) => endOverdue(on, 'image', null),
  'forgotten resources': (on) => releaseForgotten(on, nobody),
  'old answers': forgetOldAnswers,
  tombstones: forgetTombstones,
  'unused copies': cleanCaches,
};

/** These read of all hosts or instances, and why that is borne. */
const ofAll: Record<string, { why: string; ask: (on: Database) => Promise<unknown> }> = {
  'hosts of a shard': {
    why: 'one shard of a worker every two seconds, in turn',
    ask: (on) => watchedHosts(connections(on), { shards: [5] }),
  },
  'heard of a zone': {
    why: 'at most once a second, while one of its hosts is silent; from an index',
    ask: (on) => zoneHeard(connections(on), { zoneId: scene.ids.zone ?? '' }),
  },
  'promises of pools': { why: 'every fifteen seconds; sums from an index', ask: countPoolPromises },
  risks: {
    why: 'once a minute: sums of what hosts and pools have promised',
    ask: (on) => scanRisks({ database: on } as unknown as World),
  },
  'BMCs to ask': {
    why: 'once a minute: those that were asked the longest ago',
    ask: (on) => hostsWithBmc(connections(on), { least: 500, most: 2000, runs: 10 }),
  },
  'silent BMCs': { why: 'once a minute, counted', ask: (on) => countSilentBmcs(connections(on), {}) },
  credentials: { why: 'once an hour: those whose credentials are the oldest', ask: rotateCredentials },
  certificates: {
    why: 'every ten minutes, in pages of one secret of each host',
    ask: (on) => renewHostCertificates(on, nobody),
  },
};

async function grow(from: number, to: number): Promise<void> {
  const { ids, stage } = scene;
  // The guards and the counts of what is promised are part of what is written.
  await stage.query('SET session_replication_role = origin');
  await asMigration(stage, async () => {
    await insertJoinedHosts(stage, { likeId: ids.host ?? '', from, to: to - 1, address: 'sim://here/' });
    await insertRunningInstances(stage, { likeId: ids.instance ?? '', perHost });
  });
  // Made long ago.
  await stage.query(
    `UPDATE "host" SET "updatedAt" = now() - interval '1 day' WHERE "updatedAt" > now() - interval '1 hour'`,
  );
  await stage.query('SET session_replication_role = replica');
  // As many in either cloud, so that what looks for few finds some.
  await stage.query(
    `UPDATE "hostClaim" SET "doubtedAt" = now(), "askAfter" = NULL WHERE "instanceId" IN (SELECT id FROM "instance" ORDER BY id LIMIT $1)`,
    [few],
  );
  await stage.query(`UPDATE "host" SET "updatedAt" = now() WHERE id IN (SELECT id FROM "host" ORDER BY id LIMIT $1)`, [
    few,
  ]);
  await stage.query('VACUUM (FULL, ANALYZE) "host"');
  await stage.query('VACUUM (ANALYZE)');
}

const every = { ...asked, ...Object.fromEntries(Object.entries(ofAll).map(([name, { ask }]) => [name, ask])) };
const before = new Map<string, Cost[]>();
const after = new Map<string, Cost[]>();

beforeAll(async () => {
  scene = await setScene();
  hostId = scene.ids.otherHost ?? '';
  database = openDatabase(scene.databaseUrl, 4, { byIndex: true });
  client = new pg.Client({
    connectionString: scene.databaseUrl,
    options: '-c timezone=UTC -c random_page_cost=1.1 -c enable_seqscan=off -c plan_cache_mode=force_generic_plan',
  });
  await client.connect();
  await makeShards(database.connections);
  await leaseShards(database.connections, { holder, leaseSeconds: 3600 });
  await tellShards(database.connections, { shards, holder });
  await scene.stage.query('UPDATE "host" SET shard = belay_shard(id)');
  // All volumes are in one pool, which has room for them.
  await scene.stage.query('UPDATE "storagePool" SET "totalGib" = 1000000000 WHERE id = $1', [scene.ids.storagePool]);
  await scene.stage.query('UPDATE "volume" SET "poolId" = $1', [scene.ids.storagePool]);
  await grow(2, small);
  for (const [name, work] of Object.entries(every)) before.set(name, await costOf(work));
  await grow(small, 4 * small);
  for (const [name, work] of Object.entries(every)) after.set(name, await costOf(work));
}, 600_000);
afterAll(async () => {
  // Who asks for a certain size wants to know how long each takes.
  if (process.env.BELAY_TEST_HOSTS)
    for (const name of Object.keys(every)) {
      const [least, most] = [before.get(name), after.get(name)];
      const told = `${sum(least, 'blocks')} → ${sum(most, 'blocks')} blocks, ${sum(least, 'ms').toFixed(1)} → ${sum(most, 'ms').toFixed(1)} ms`;
      process.stdout.write(`${name}: ${told}\n`);
    }
  await client?.end();
  await database?.close();
  await scene?.stop();
});

const sum = (list: Cost[] = [], of: 'blocks' | 'ms'): number => list.reduce((total, cost) => total + cost[of], 0);

/** Rows tell what grows. An index that is a level deeper takes a block more for each row that is looked for in it. */
const slack = { rows: 30, blocks: 100 };

/** Statements that read more of the larger cloud than so many times what they read of the smaller one, and a few. */
const grown = (name: string, times: number): string[] =>
  (after.get(name) ?? []).flatMap((cost, at) =>
    (['blocks', 'rows'] as const).flatMap((of) => {
      const least = before.get(name)?.[at]?.[of] ?? 0;
      return cost[of] > times * least + slack[of] ? [`${least} ${of}, then ${cost[of]}: ${cost.text}`] : [];
    }),
  );

test.each(Object.keys(asked))('%s', (name) => {
  expect(after.get(name)?.length).toBeGreaterThan(0);
  expect(grown(name, 1.5)).toEqual([]);
});

test.each(Object.keys(ofAll))('%s, of all', (name) => {
  expect(after.get(name)?.length).toBeGreaterThan(0);
  // Four times as many hosts are four times as much, or sixteen times where each is compared with each.
  expect(grown(name, 8), 'it grows faster than the hosts').toEqual([]);
});
