/** A host worker: leases shards of the hosts and carries every message for them. More such processes carry more hosts. */
import type { Worker } from '@temporalio/worker';
import { joinControlPlane } from '../database/controlNodes.ts';
import { hostConnections } from '../database/hosts.ts';
import { giveShardsBack, leaseShards, makeShards, renewShards, takeOverShards } from '../database/leases.ts';
import type { Lease } from '../host-agent/stamp.ts';
import { shardQueue } from '../model/shards.ts';
import { config } from '../runtime/config.ts';
import { metrics } from '../runtime/metrics.ts';
import { momentNow, passedMs } from '../runtime/moment.ts';
import { observeHosts } from './observer.ts';
import { stopRequested } from './stop.ts';
import { startWorkerProcess } from './worker.ts';

/** A lease that is not renewed ends after so long; until then no other process touches its hosts. */
const leaseSeconds = 10;
const renewMs = 2_000;

const stop = stopRequested();
const processOf = await startWorkerProcess();
const { database, log } = processOf;
/** A worker that is started again under its old name takes its own leases back at once; yet it is another holder. */
const name = process.env.BELAY_WORKER_ID ?? config.processName;
const holder = `${name}#${crypto.randomUUID().slice(0, 8)}`;
/** The newest lease of each shard that this process has had. */
const leases = new Map<number, Lease>();
const carried = new Map<number, { worker: Worker; done: Promise<void> }>();
/** Those that take nothing new and end what they have begun. Nobody waits for them: what else is leased must be renewed meanwhile. */
const ending = new Map<number, Promise<void>>();
/** Those whose lease it had when it last asked: of some that are ending another may have it. */
let held = new Set<number>();
let stopping = false;
let renewedAt = momentNow();

await makeShards(database.connections);
await takeOverShards(database.connections, { name, holder, leaseSeconds });

/** Renews what this process has, gives back what is more than its fair share, takes what nobody has. */
async function lease(): Promise<number[]> {
  const rows = await leaseShards(database.connections, { holder, leaseSeconds });
  renewedAt = momentNow();
  for (const { shard, epoch } of rows) leases.set(shard, { shard, epoch: Number(epoch) });
  held = new Set(rows.map(({ shard }) => shard));
  return rows.map(({ shard }) => shard);
}

/** Of a shard that this process carries, so it has had one. */
function leaseOf(shard: number): Lease {
  const found = leases.get(shard);
  if (!found) throw new Error(`shard ${shard} was never leased to this worker`);
  return found;
}

/** All but these take nothing new from now on. */
function letGo(wanted: ReadonlySet<number>): void {
  for (const [shard, { worker, done }] of carried) {
    if (wanted.has(shard)) continue;
    carried.delete(shard);
    worker.shutdown();
    ending.set(
      shard,
      done.finally(() => ending.delete(shard)),
    );
  }
  metrics.shards.set(carried.size);
}

async function carry(shards: number[]): Promise<void> {
  const wanted = new Set(shards);
  letGo(wanted);
  for (const shard of wanted) {
    if (carried.has(shard) || ending.has(shard)) continue;
    const worker = await processOf.worker({
      lease: () => leaseOf(shard),
      taskQueue: shardQueue(shard),
      // Each poll stands at the server for a minute and costs it when it ends: ten, as usual, for each of the shards would keep a machine at rest busy.
      activityTaskPollerBehavior: { type: 'simple-maximum', maximum: 2 },
      maxConcurrentActivityTaskExecutions: 50,
    });
    carried.set(shard, { worker, done: worker.run() });
  }
  metrics.shards.set(carried.size);
}

/** Gives what has ended away: others carry it within seconds. What has not, it keeps until then. */
async function giveAway(): Promise<void> {
  letGo(new Set());
  await giveShardsBack(database.connections, { holder, except: [...ending.keys()] });
  const kept = ending.size > 0 ? await renewShards(database.connections, { holder, leaseSeconds }) : [];
  held = new Set(kept.map(({ shard }) => shard));
  renewedAt = momentNow();
}

const aWhile = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, renewMs));

const node = joinControlPlane(database, log, { role: 'host' });
/** Hosts are watched for as long as nobody else carries them. */
const watched = (): number[] => [...carried.keys(), ...[...ending.keys()].filter((shard) => held.has(shard))];
const observer = observeHosts(processOf, holder, { shards: watched, leaseOf: (shard) => leases.get(shard) });
void stop.then(() => {
  stopping = true;
});
let announced = false;
while (!stopping) {
  const changed = node.changed();
  try {
    if (!node.isDraining()) await carry(await lease());
    else {
      await giveAway();
      if (ending.size === 0) await node.drained();
    }
    if (!announced) log.info({ shards: carried.size }, 'host worker ready');
    announced = true;
  } catch (error) {
    log.warn({ error: String(error) }, 'could not renew shard leases');
    // Without a lease another process may carry these hosts already: this one must let go.
    if (passedMs(renewedAt) > leaseSeconds * 1000) letGo(new Set());
  }
  await Promise.race([stop, changed, aWhile(), ...ending.values()]);
}
await node.leave();
for (;;) {
  await giveAway().catch((error: unknown) => log.warn({ error: String(error) }, 'could not give shards back'));
  if (ending.size === 0) break;
  await Promise.race([aWhile(), ...ending.values()]);
}
observer.stop();
await giveShardsBack(database.connections, { holder, except: [] }).catch(() => {});
await hostConnections(database).closeAll();
await processOf.close();
process.exit(0);
