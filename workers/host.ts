/** A host worker: leases shards of the hosts and carries every message for them. More such processes carry more hosts. */
import type { Worker } from '@temporalio/worker';
import { hostConnections } from '../database/hosts.ts';
import { giveShardsBack, leaseShards, makeShards, takeOverShards } from '../database/leases.ts';
import type { Lease } from '../host-agent/stamp.ts';
import { shardQueue } from '../model/shards.ts';
import { config } from '../runtime/config.ts';
import { metrics } from '../runtime/metrics.ts';
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
let stopping = false;
let renewedAt = Date.now();

await makeShards(database.connections);
await takeOverShards(database.connections, { name, holder, leaseSeconds });

/** Renews what this process has, gives back what is more than its fair share, takes what nobody has. */
async function lease(): Promise<number[]> {
  const rows = await leaseShards(database.connections, { holder, leaseSeconds });
  renewedAt = Date.now();
  for (const { shard, epoch } of rows) leases.set(shard, { shard, epoch: Number(epoch) });
  return rows.map(({ shard }) => shard);
}

/** Of a shard that this process carries, so it has had one. */
function leaseOf(shard: number): Lease {
  const found = leases.get(shard);
  if (!found) throw new Error(`shard ${shard} was never leased to this worker`);
  return found;
}

async function carry(shards: number[]): Promise<void> {
  const wanted = new Set(shards);
  for (const [shard, { worker, done }] of carried) {
    if (wanted.has(shard)) continue;
    carried.delete(shard);
    worker.shutdown();
    await done;
  }
  for (const shard of wanted) {
    if (carried.has(shard)) continue;
    const worker = await processOf.worker({
      lease: () => leaseOf(shard),
      taskQueue: shardQueue(shard),
      maxConcurrentActivityTaskPolls: 1,
      maxConcurrentActivityTaskExecutions: 50,
    });
    carried.set(shard, { worker, done: worker.run() });
  }
  metrics.shards.set(carried.size);
}

const observer = observeHosts(processOf, holder, () => [...carried.keys()].map(leaseOf));
void stop.then(() => {
  stopping = true;
});
let announced = false;
while (!stopping) {
  try {
    await carry(await lease());
    if (!announced) log.info({ shards: carried.size }, 'host worker ready');
    announced = true;
  } catch (error) {
    log.warn({ error: String(error) }, 'could not renew shard leases');
    // Without a lease another process may carry these hosts already: this one must let go.
    if (Date.now() - renewedAt > leaseSeconds * 1000) await carry([]);
  }
  await Promise.race([stop, new Promise((resolve) => setTimeout(resolve, renewMs))]);
}
observer.stop();
await carry([]);
await giveShardsBack(database.connections, { holder }).catch(() => {});
await hostConnections(database).closeAll();
await processOf.close();
process.exit(0);
