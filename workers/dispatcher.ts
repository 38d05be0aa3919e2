/**
 * The dispatcher: what needs an answer within a second or a few, as loops; and Temporal's schedules for all that recurs, brought in line when it starts.
 * Any number may run: each piece of work is taken under a lock or is harmless when done twice.
 */
import { countedNodes, joinControlPlane } from '../database/controlNodes.ts';
import { openDatabase } from '../database/database.ts';
import { config } from '../runtime/config.ts';
import { log } from '../runtime/log.ts';
import { shrinkAtRest } from '../runtime/memory.ts';
import { metrics, serveMetrics } from '../runtime/metrics.ts';
import { openTemporal } from '../temporal/connection.ts';
import { reconcileMaintenance } from '../temporal/schedules.ts';
import { callbackDelivery } from './callbacks.ts';
import { giveWayToForce, repeatCancels } from './cancels.ts';
import { dispatch, listen } from './dispatch.ts';
import { countFindings } from './findings.ts';
import { type Loop, repeat, sleepers } from './loop.ts';
import { countPoolPromises } from './pools.ts';
import { sealers } from './sealers.ts';
import { stopRequested } from './stop.ts';
import { retryWhereHostsAnswer } from './stuck.ts';

const database = openDatabase(config.databaseUrl, config.dispatcherConnections, { byIndex: true });
/** Of their own, so that what tenants' receivers do holds up nothing else. */
const callbacks = openDatabase(config.databaseUrl, config.callbackConnections, { byIndex: true });
const temporal = openTemporal();
const stop = stopRequested();
serveMetrics(config.metricsPort);
shrinkAtRest();

/** Woken by every release of a lock and every acceptance that waits. */
const turns = sleepers();
const places = sleepers();
/** A place that is free again is used at once. */
const delivery = callbackDelivery(callbacks, log, places.wake);

async function countNodes(): Promise<void> {
  const counts = await countedNodes(database.connections);
  metrics.controlNodes.reset();
  for (const { role, state, count } of counts) metrics.controlNodes.labels(String(role), state).set(Number(count));
}

const counted = [
  metrics.queueDepth,
  metrics.stuck,
  metrics.waiting,
  metrics.findings,
  metrics.controlNodes,
  metrics.poolPromised,
  metrics.poolPromisable,
];

const loops: Loop[] = [
  {
    what: 'dispatching',
    work: () => dispatch(database, temporal(), log),
    pauseMs: (more) => (more ? 0 : 1_000),
    wakes: turns,
  },
  {
    what: 'giving way to force',
    work: () => giveWayToForce(database, temporal()),
    pauseMs: () => 1_000,
    wakes: turns,
  },
  { what: 'repeating cancels', work: () => repeatCancels(database, temporal()), pauseMs: () => 5_000 },
  {
    what: 'retrying what waits for hosts',
    work: () => retryWhereHostsAnswer(database, temporal()),
    pauseMs: () => 3_000,
  },
  { what: 'counting findings', work: () => countFindings(database), pauseMs: () => 10_000 },
  { what: 'counting what pools have promised', work: () => countPoolPromises(database), pauseMs: () => 15_000 },
  { what: 'counting control nodes', work: () => countNodes(), pauseMs: () => 10_000 },
  ...sealers(database, log),
  {
    what: 'delivering callbacks',
    work: () => delivery.begin(),
    pauseMs: (begun) => (begun === 0 ? 500 : 0),
    wakes: places,
  },
];

const reconciled = sleepers();
const inLine = new Promise<void>((resolve) => reconciled.add(resolve));
/** Temporal may be away when this starts. */
const reconcile: Loop = {
  what: 'bringing the schedules of maintenance in line',
  async work() {
    await reconcileMaintenance(temporal());
    reconciled.wake();
  },
  pauseMs: () => 2_000,
};

log.info('dispatcher ready');
const node = joinControlPlane(database, log, { role: 'dispatcher' });
let stopping = false;
void stop.then(() => {
  stopping = true;
});
while (!stopping) {
  // Taken before it is asked, so that no change is missed.
  const changed = node.changed();
  if (node.isDraining()) {
    await node.drained();
    await Promise.race([stop, changed]);
    continue;
  }
  const ends = Promise.race([stop, changed]);
  await Promise.all([
    listen(database, ends, turns.wake),
    repeat(log, Promise.race([ends, inLine]), reconcile),
    ...loops.map((loop) => repeat(log, ends, loop)),
  ]);
  await delivery.ended();
  // Others count from now on; what this one has counted last would stand for as long as it is drained.
  for (const gauge of counted) gauge.reset();
}
await node.leave();
await Promise.all([database.close(), callbacks.close()]);
process.exit(0);
