/**
 * One host in twenty fails at the same moment, fences go wrong, and the control plane is killed in the middle of it: each that failed is failed over
 * once, each of its instances runs once, elsewhere, and all other hosts are left alone.
 *
 * `BELAY_PROOF_HOSTS` is of how many hosts, 60 unless set; with 1000 fifty fail.
 */
import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { simulatedIp } from '../../host-agent/peerAddress.ts';
import type { Resource } from '../../lab/api.ts';
import { inBatches, instanceBody, make } from '../../lab/provision.ts';
import type { FaultRule } from '../../workers/faults.ts';
import { joinCloud, type SimulatedCloud, startSimulatedCloud } from '../support/cloud.ts';
import { untilSeen } from '../support/operations.ts';
import { setRules } from '../support/rollback.ts';
import { setSetting } from '../support/settings.ts';
import { befall, realityOf, simulatorInventory } from '../support/simulated.ts';
import { differences } from '../support/world.ts';

const hostCount = Number(process.env.BELAY_PROOF_HOSTS ?? 60);
const failing = Math.max(3, Math.floor(hostCount * 0.05));
/** On each of those that fail: two that are to run elsewhere, and one that is not. */
const guests = [true, true, false];
/** Through the API; the others join as rows. None of these fails. */
const added = 3;

const testTimeoutMs = 1_800_000;
const roles = ['api', 'control', 'host', 'dispatcher'] as const;

let running: SimulatedCloud;
let joined: ReturnType<typeof joinCloud>;
let client: pg.Client;

beforeAll(async () => {
  running = await startSimulatedCloud({ hosts: added, moreHosts: hostCount - added, faultInjection: true });
  joined = joinCloud(running.address);
  client = new pg.Client({ connectionString: running.address.databaseUrl });
  await client.connect();
}, testTimeoutMs);

afterAll(async () => {
  await client?.end();
  await running?.stop();
}, 120_000);

const rows = async <T extends pg.QueryResultRow>(text: string, ...values: unknown[]): Promise<T[]> =>
  (await client.query<T>(text, values)).rows;

/** Of each host that fails one of these goes wrong with how it is shut out. */
const mishaps: Omit<FaultRule, 'targetId'>[] = [
  { step: 'hosts.fence', fault: 'failBefore', times: 1 },
  { step: 'hosts.fence', fault: 'failAfter', times: 1 },
  { step: 'hosts.noteFenced', fault: 'failAfter', times: 1 },
  { step: 'hosts.fence', fault: 'twice' },
];

interface Rule {
  id: string;
  used: number;
}

/** The storage shuts the host out, and its answer comes never: whoever has asked is waiting when it is killed. */
async function withholdAnswer(host: Resource): Promise<() => Promise<boolean>> {
  const url = `${running.address.simulatorUrl}/_sim/rules`;
  const rule = {
    call: 'ceph.ensureFenced',
    about: [`"${simulatedIp(host.name)}"`],
    when: 'after',
    action: 'hang',
    times: 1,
  };
  const { id } = (await (await fetch(url, { method: 'POST', body: JSON.stringify(rule) })).json()) as Rule;
  return async () => ((await (await fetch(url)).json()) as Rule[]).some((one) => one.id === id && one.used > 0);
}

/** What must never be seen, from now on until it is told to end. Answers all that was. */
function watch(hosts: readonly Resource[], failed: readonly Resource[], lost: readonly string[]) {
  const seen = new Set<string>();
  let looks = 0;
  let over = false;
  const others = hosts.filter((host) => !failed.includes(host)).map(({ id }) => id);
  const names = new Map(failed.map(({ id, name }) => [name, id]));
  const look = async (): Promise<void> => {
    const fenced = new Set(
      (await rows<{ id: string }>(`SELECT id FROM "host" WHERE "fencedAt" IS NOT NULL`)).map(({ id }) => id),
    );
    const at = (await (await fetch(`${running.address.simulatorUrl}/_sim/running`)).json()) as Record<string, string[]>;
    for (const id of lost) {
      const places = at[id] ?? [];
      if (places.length > 1) seen.add(`instance ${id} runs on ${places.join(' and ')}`);
      for (const name of places)
        if (fenced.has(names.get(name) ?? '')) seen.add(`instance ${id} runs on ${name}, which is shut out`);
    }
    for (const { name, ...standing } of await rows<{ name: string }>(
      `SELECT name, state, connection, health FROM "host"
       WHERE id = ANY($1) AND (state <> 'active' OR connection <> 'connected' OR health <> 'well')`,
      others,
    ))
      seen.add(`${name}, which has not failed, is ${Object.values(standing).join(', ')}`);
    looks += 1;
  };
  const watching = (async () => {
    while (!over) {
      await look();
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
    await look();
  })();
  watching.catch(() => {});
  return async (): Promise<{ seen: string[]; looks: number }> => {
    over = true;
    await watching;
    return { seen: [...seen], looks };
  };
}

const seconds = (ms: number): string => `${(ms / 1000).toFixed(1)} s`;

test(
  `of ${hostCount} hosts ${failing} fail at once, and each of their instances runs once, though fences fail and the control plane is killed`,
  async () => {
    const { admin, cloud } = joined;
    const { simulatorUrl, databaseUrl } = running.address;
    const failed = cloud.hosts.slice(-failing);
    const failedIds = failed.map(({ id }) => id);
    await setSetting(admin, 'ha.maxFailedHostsPercent', Math.ceil((100 * failing) / hostCount));
    await admin.call('PATCH', `/v1/clusters/${cloud.cluster.id}`, {
      ha: { enabled: true, requireFence: true, suspectSeconds: 4 },
    });
    const instances = await inBatches(
      failed.flatMap((host) => guests.map((isHa, n) => ({ host, isHa, name: `${host.name}-${n}` }))),
      10,
      async ({ host, isHa, name }) => {
        const more = { projectId: cloud.project.id, requestedHostId: host.id, ha: { enabled: isHa, priority: 50 } };
        return { isHa, id: (await make(admin, 'instances', instanceBody(cloud, name, more))).id };
      },
    );
    const [ha, plain] = [true, false].map((is) => instances.filter(({ isHa }) => isHa === is).map(({ id }) => id));
    await setRules(
      admin,
      failed.map(({ id }, n) => ({ ...mishaps[n % mishaps.length], targetId: id }) as FaultRule),
    );
    const unanswered = await withholdAnswer(failed[0] as Resource);
    const watched = watch(
      cloud.hosts,
      failed,
      instances.map(({ id }) => id),
    );

    const failedAt = Date.now();
    await Promise.all(
      failed.map(async ({ name }, n) => {
        if (n % 3 < 2) return befall(simulatorUrl, name, 'crash', {});
        // Nobody hears of it as if its power were gone, and its guests run on.
        await befall(simulatorUrl, name, 'cut', { from: ['peers', 'storage'] });
        await befall(simulatorUrl, name, 'partition', {});
      }),
    );

    const restarts = `type = 'instance.restartElsewhere' AND "targetId" = ANY($1)`;
    await untilSeen(unanswered, (has) => has);
    await untilSeen(
      () => rows(`SELECT 1 FROM "operation" WHERE ${restarts} LIMIT 1`, ha),
      (begun) => begun.length > 0,
    );
    await Promise.all(roles.map((role) => running.stack.kill(role)));

    const failovers = await untilSeen(
      () =>
        rows<{ targetId: string; state: string; createdAt: Date; endedAt: Date | null; steps: { name: string }[] }>(
          `SELECT "targetId", state, "createdAt", "endedAt", steps FROM "operation" WHERE type = 'host.failover'`,
        ),
      (all) => all.filter(({ endedAt }) => endedAt).length >= failing,
    );
    await untilSeen(
      () =>
        rows(
          `SELECT 1 FROM "instance" i WHERE i."currentOperationId" IS NOT NULL OR (i.id = ANY($1) AND i.state <> 'running')
           UNION ALL SELECT 1 FROM "operation" o WHERE o.state IN ('queued', 'running', 'rollingBack') LIMIT 1`,
          ha,
        ),
      (left) => left.length === 0,
    );
    const { seen, looks } = await watched();
    const inAll = Math.max(...failovers.map(({ endedAt }) => Number(endedAt))) - failedAt;
    const took = failovers.map(({ createdAt, endedAt }) => Number(endedAt) - Number(createdAt));
    const begun = failovers.map(({ createdAt }) => Number(createdAt) - failedAt);
    console.log(
      `${failing} of ${hostCount} hosts failed: failovers began after ${seconds(Math.min(...begun))} to ${seconds(Math.max(...begun))}, ` +
        `all had ended after ${seconds(inAll)}; the slowest took ${seconds(Math.max(...took))}; looked ${looks} times`,
    );

    expect(seen).toEqual([]);
    expect(failovers.map(({ targetId, state }) => [targetId, state]).sort()).toEqual(
      failedIds.map((id) => [id, 'succeeded']).sort(),
    );
    // Each was started elsewhere by one operation, of which nothing was undone.
    expect(
      await rows(`SELECT "targetId" AS id, state FROM "operation" WHERE type = 'instance.restartElsewhere' ORDER BY 1`),
    ).toEqual(ha?.toSorted().map((id) => ({ id, state: 'succeeded' })));
    expect(
      await rows(
        `SELECT state, "stateReason", count(*)::int FROM "instance" WHERE "hostId" <> ALL($1) OR "hostId" IS NULL GROUP BY 1, 2 ORDER BY 1`,
        failedIds,
      ),
    ).toEqual([
      { state: 'running', stateReason: null, count: ha?.length },
      { state: 'stopped', stateReason: 'hostFailed', count: plain?.length },
    ]);
    const real = await simulatorInventory(simulatorUrl);
    expect(real.ceph.fenced).toEqual(failed.map(({ name }) => simulatedIp(name)).sort());
    for (const { name } of failed) {
      const { domains = {} } = real.hosts[name] ?? {};
      expect(Object.values(domains).filter(({ state }) => state === 'running')).toEqual([]);
      // Their definitions lie there until they are reinstated.
      delete real.hosts[name];
    }
    expect(await differences(databaseUrl, realityOf(real))).toEqual([]);
    expect(
      await rows(`SELECT state, count(*)::int FROM "host" WHERE "deletedAt" IS NULL GROUP BY 1 ORDER BY 1`),
    ).toEqual([
      { state: 'active', count: hostCount - failing },
      { state: 'fenced', count: failing },
    ]);
    expect(
      await rows(`SELECT type, state, error FROM "operation" WHERE "endedAt" IS NULL OR state NOT IN ('succeeded')`),
    ).toEqual([]);
    expect(
      await rows(
        `SELECT type, "resourceId" FROM "event" WHERE type = 'host.healthChanged' AND "resourceId" <> ALL($1)`,
        failedIds,
      ),
    ).toEqual([]);
    expect(await rows(`SELECT what, "resourceKind", actual FROM "finding" WHERE state = 'open'`)).toEqual([]);
    // What was to go wrong did.
    expect(
      (await rows<{ key: string }>(`SELECT DISTINCT key FROM "idempotencyKey" WHERE key LIKE '%/hosts.%/do'`))
        .map(({ key }) => key)
        .sort(),
    ).toEqual(
      [...new Set(failed.map((_, n) => mishaps[n % mishaps.length]))]
        .map((mishap) => `${mishap?.fault}/${mishap?.step}/do`)
        .sort(),
    );
  },
  testTimeoutMs,
);
