/** What it costs to make instances: to take the order, and to carry it out. */
import type { OperationView } from '../lab/api.ts';
import { instanceBody } from '../lab/provision.ts';
import type { BareInsert, BareInserted } from './bare-insert.ts';
import { type Child, startChild } from './child.ts';
import type { BenchCloud } from './cloud.ts';
import { compared, type Figure, median, percentile } from './figures.ts';
import type { HttpLoad, Load } from './load.ts';
import { allAnswered, requestOf } from './reads.ts';

const workers = ['control', 'host'] as const;
const deployCount = 1_000;
const deployLimitMs = 900_000;

function signalWorkers({ stack }: BenchCloud, signal: 'SIGSTOP' | 'SIGCONT'): void {
  for (const role of workers) process.kill(stack.pid(role), signal);
}

/** Work while Belay's own workers stand still. */
async function withoutWorkers<T>(bench: BenchCloud, work: () => Promise<T>): Promise<T> {
  signalWorkers(bench, 'SIGSTOP');
  try {
    return await work();
  } finally {
    signalWorkers(bench, 'SIGCONT');
  }
}

/** From the request to the answer that it runs, in milliseconds. */
async function deployOne({ cloud }: BenchCloud, name: string): Promise<number> {
  const started = performance.now();
  const operation = await cloud.tenant.call<OperationView>('POST', '/v1/instances', instanceBody(cloud, name), {
    Prefer: 'wait=60',
  });
  const ms = performance.now() - started;
  if (operation.state !== 'succeeded')
    throw new Error(`the deploy of ${name} is ${operation.state}: ${operation.error?.message}`);
  return ms;
}

const startBareSaga = ({ stack }: BenchCloud): Child =>
  startChild('bare-saga/worker.ts', {
    BELAY_TEMPORAL_ADDRESS: stack.temporalAddress,
    BELAY_TEMPORAL_NAMESPACE: 'belay',
  });

/** p50 of one deploy at a time; a bare saga of as many steps runs before each. */
export async function deployIdle(bench: BenchCloud): Promise<Figure> {
  const bare = startBareSaga(bench);
  try {
    const bareOne = async (): Promise<number> => (await bare.ask<number>({ count: 1 })) * 1000;
    for (let n = 0; n < 5; n++) {
      await bareOne();
      await deployOne(bench, `warm-${n}`);
    }
    const times: number[] = [];
    const bareTimes: number[] = [];
    for (let n = 0; n < 30; n++) {
      bareTimes.push(await bareOne());
      times.push(await deployOne(bench, `idle-${n}`));
    }
    return compared(
      'deploy.idle',
      median(times),
      median(bareTimes),
      'ms',
      { atMost: 2.5 },
      `p50 of ${times.length} deploys, one at a time, from the request to the answer that it runs (p99 ${percentile(times, 0.99).toFixed(0)} ms); against: a bare saga of 3 local and 4 remote steps in turn with them`,
    );
  } finally {
    await bare.stop();
  }
}

const creates = (bench: BenchCloud, prefix: string, count: number): HttpLoad => ({
  kind: 'http',
  port: Number(new URL(bench.stack.apiUrl).port),
  requests: Array.from({ length: count }, (_, n) =>
    requestOf(
      'POST',
      '/v1/instances',
      bench.cloud.tenantToken,
      JSON.stringify(instanceBody(bench.cloud, `${prefix}-${n}`)),
    ),
  ),
  connections: 32,
  limit: { answers: count },
});

/** As many as an API process has. */
const databaseConnections = 16;

/** Creates accepted per second; the workers that would carry them out stand still meanwhile. The same rows are then inserted bare. */
export async function createAccept(bench: BenchCloud): Promise<Figure> {
  const generator = startChild('load.ts');
  const bare = startChild('bare-insert.ts');
  try {
    const { load, inserted } = await withoutWorkers(bench, async () => {
      allAnswered(await generator.ask<Load>(creates(bench, 'first', 200)));
      const accepted = await generator.ask<Load>(creates(bench, 'accept', 1_500));
      allAnswered(accepted);
      const { databaseUrl } = bench.stack;
      const question = { databaseUrl, prefix: 'accept', connections: databaseConnections } satisfies BareInsert;
      return { load: accepted, inserted: await bare.ask<BareInserted>(question) };
    });
    if (inserted.creates !== load.milliseconds.length)
      throw new Error(`${load.milliseconds.length} creates were accepted, and ${inserted.creates} inserted again`);
    return compared(
      'create.accept',
      load.milliseconds.length / load.seconds,
      inserted.creates / inserted.seconds,
      'creates/s',
      { atLeast: 0.1 },
      `${load.milliseconds.length} creates over 32 connections, one API process, workers stopped, dispatcher and Temporal running (p50 ${median(load.milliseconds).toFixed(0)} ms, p99 ${percentile(load.milliseconds, 0.99).toFixed(0)} ms); against: the same ${(inserted.rows / inserted.creates).toFixed(1)} rows each, inserted by prepared statements in one transaction over ${databaseConnections} connections`,
    );
  } finally {
    await generator.stop();
    await bare.stop();
  }
}

async function count(bench: BenchCloud, prefix: string, state: string): Promise<number> {
  const filter = encodeURIComponent(`name = "${prefix}-*" AND state = "${state}"`);
  const page = await bench.cloud.tenant.call<{ count: number }>(
    'GET',
    `/v1/instances?filter=${filter}&count=exact&pageSize=1`,
  );
  return page.count;
}

/** Asks for all at once; seconds until all run. */
async function deployAll(bench: BenchCloud, prefix: string, wanted: number): Promise<number> {
  const generator = startChild('load.ts');
  try {
    const load = { ...creates(bench, prefix, wanted), connections: 100 };
    const started = performance.now();
    const accepted = generator.ask<Load>(load).then(allAnswered);
    accepted.catch(() => {});
    for (;;) {
      const running = await count(bench, prefix, 'running');
      if (running === wanted) break;
      if (performance.now() - started > deployLimitMs)
        throw new Error(`${running} of ${wanted} instances run after ${deployLimitMs / 1000} s`);
      await new Promise((resolve) => setTimeout(resolve, 250));
    }
    await accepted;
    return (performance.now() - started) / 1000;
  } finally {
    await generator.stop();
  }
}

/** A thousand instances on a thousand hosts; a bare saga of as many steps runs before and after. */
export async function deploySimulated(bench: BenchCloud): Promise<Figure> {
  const { cloud, hostSeconds } = bench;
  await deployOne(bench, 'cached');
  const bare = startBareSaga(bench);
  try {
    const bareRun = (of: number): Promise<number> => withoutWorkers(bench, () => bare.ask<number>({ count: of }));
    await bareRun(50);
    await deployAll(bench, 'warm-up', 50);
    const before = await bareRun(deployCount);
    const seconds = await deployAll(bench, 'mass', deployCount);
    const after = await bareRun(deployCount);
    const { count: used } = await cloud.tenant.call<{ count: number }>('GET', '/v1/instances?count=exact&pageSize=1');
    return compared(
      'deploy.simulated',
      deployCount / seconds,
      (2 * deployCount) / (before + after),
      'deploys/s',
      { atLeast: 0.5 },
      `${deployCount} at once on ${cloud.hosts.length} hosts in ${seconds.toFixed(1)} s, the simulator on the same machine (${used} instances in the end); against: a bare saga of 3 local and 4 remote steps, ${before.toFixed(1)} s before, ${after.toFixed(1)} s after; ${cloud.hosts.length} hosts were added in ${hostSeconds.toFixed(0)} s`,
    );
  } finally {
    await bare.stop();
  }
}
