/**
 * What a crash may cost: nothing. While 20 deploys and 10 migrations are under way, one part of the control plane is killed without
 * warning (or a host's agent starts anew). Every accepted operation succeeds, records and reality agree, and nothing is left after all is deleted.
 *
 * `BELAY_KILL_ROUNDS` repeats it; `BELAY_KILL_SEED` brings back the moments of a run before.
 */
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { OperationView } from '../../lab/api.ts';
import { type Cloud, inBatches, instanceBody } from '../../lab/provision.ts';
import { joinCloud, type SimulatedCloud, startSimulatedCloud } from '../support/cloud.ts';
import { describe as inWords, type PersistentApi, persistent } from '../support/persistent.ts';
import { randomFrom } from '../support/random.ts';
import { changes } from '../support/world.ts';

const rounds = Number(process.env.BELAY_KILL_ROUNDS ?? 1);
const seed = Number(process.env.BELAY_KILL_SEED ?? Math.floor(Math.random() * 1e9));
const random = randomFrom(seed);

const deploys = 20;
const migrations = 10;
/** What the steps of all operations add up to, roughly: where among them the blow falls is drawn. */
const stepsInAll = deploys * 5 + migrations * 6;
const testTimeoutMs = 600_000;

const victims = ['api', 'control', 'host', 'dispatcher', 'temporal', 'postgres', 'agent'] as const;
type Victim = (typeof victims)[number];

let running: SimulatedCloud;
let cloud: Cloud;
let tenant: PersistentApi;
let admin: PersistentApi;
let picture: () => Promise<unknown>;
let wrong: () => Promise<string[]>;

const latency = (call: string, ms: number): Promise<unknown> =>
  fetch(`${running.address.simulatorUrl}/_sim/latency`, { method: 'PUT', body: JSON.stringify({ call, ms }) });

beforeAll(async () => {
  running = await startSimulatedCloud({ hosts: 8, faultInjection: false });
  const joined = joinCloud(running.address);
  ({ cloud, picture, wrong } = joined);
  tenant = persistent(cloud.tenant);
  admin = persistent(joined.admin);
  // Work takes a while on real hosts; here it has to, or nothing would be under way when the blow falls.
  await latency('*', 25);
  // The first deploy leaves a cached image in the pool, on purpose.
  await remove(await deploy('first'));
  console.log(`BELAY_KILL_SEED=${seed}`);
}, testTimeoutMs);

afterAll(async () => running?.stop(), 120_000);

async function deploy(name: string): Promise<string> {
  const operation = await tenant.ended('POST', '/v1/instances', instanceBody(cloud, name));
  expect(inWords(operation)).toContain(' succeeded');
  return operation.targetId;
}

async function remove(id: string): Promise<void> {
  for (const [method, path] of [
    ['DELETE', `/v1/instances/${id}`],
    ['POST', `/v1/instances/${id}/actions/expunge`],
  ] as const) {
    const operation = await tenant.ended(method, path, method === 'POST' ? {} : undefined);
    expect(inWords(operation)).toContain(' succeeded');
  }
}

/** Waits until so many steps have ended in the operations that were asked for since. */
async function stepsEnded(since: Date, count: number, over: () => boolean): Promise<void> {
  const client = new pg.Client({ connectionString: running.address.databaseUrl });
  await client.connect();
  try {
    while (!over()) {
      const { rows } = await client.query<{ n: string }>(
        `SELECT count(*) AS n FROM "operation" o, jsonb_array_elements(o.steps) s WHERE o."createdAt" >= $1 AND s->>'endedAt' IS NOT NULL`,
        [since],
      );
      if (Number(rows[0]?.n) >= count) return;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  } finally {
    await client.end();
  }
}

async function strike(victim: Victim): Promise<void> {
  if (victim !== 'agent') return running.stack.kill(victim);
  for (const { name } of cloud.hosts) {
    const response = await fetch(`${running.address.simulatorUrl}/_sim/hosts/${name}/restartAgent`, { method: 'POST' });
    expect(response.status).toBe(200);
  }
}

async function round(victim: Victim, number: number): Promise<void> {
  const before = await picture();
  const movers = await Promise.all(
    Array.from({ length: migrations }, (_, index) => deploy(`mover-${victim}-${number}-${index}`)),
  );
  const since = new Date();
  let over = false;
  const work = Promise.all([
    ...Array.from({ length: deploys }, (_, index) =>
      tenant.ended('POST', '/v1/instances', instanceBody(cloud, `new-${victim}-${number}-${index}`)),
    ),
    ...movers.map((id) => admin.ended('POST', `/v1/instances/${id}/actions/migrate`, {})),
  ]).finally(() => {
    over = true;
  });
  const moment = Math.floor(random() * stepsInAll * 0.9);
  const blow = stepsEnded(since, moment, () => over).then(async () => {
    const late = over;
    await strike(victim);
    return late;
  });
  const [operations, late] = await Promise.all([work, blow]);
  console.log(
    `round ${number}: ${victim} killed after ${moment} of about ${stepsInAll} steps${late ? ', too late' : ''}`,
  );
  const failures = operations.filter(({ state }: OperationView) => state !== 'succeeded').map(inWords);
  expect(failures).toEqual([]);
  expect(await wrong()).toEqual([]);
  await inBatches(operations, 15, ({ targetId }) => remove(targetId));
  expect(await wrong()).toEqual([]);
  expect(changes(before, await picture())).toEqual([]);
}

describe.each(Array.from({ length: rounds }, (_, index) => index + 1))('round %i', (number) => {
  for (const victim of victims) test(`${victim} may die`, () => round(victim, number), testTimeoutMs);
});

test(
  'what is accepted while Temporal is away runs when it is back',
  async () => {
    const before = await picture();
    // Twice in a row: the first restart is under way while the requests come in.
    const back = running.stack.kill('temporal');
    const accepted = await Promise.all(
      Array.from({ length: 10 }, (_, index) =>
        tenant.call<OperationView>('POST', '/v1/instances', instanceBody(cloud, `away-${index}`)),
      ),
    );
    await back;
    const operations = await Promise.all(accepted.map(({ id }) => tenant.settled(id)));
    expect(operations.filter(({ state }) => state !== 'succeeded').map(inWords)).toEqual([]);
    expect(await wrong()).toEqual([]);
    await inBatches(operations, 10, ({ targetId }) => remove(targetId));
    expect(changes(before, await picture())).toEqual([]);
  },
  testTimeoutMs,
);
