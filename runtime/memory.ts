/** Gives back what a start or a burst has left behind. */
import { performance } from 'node:perf_hooks';
import { getHeapStatistics, setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/** Who uses less of its thread than this has nobody waiting who would notice the tenth of a second that clearing away takes. */
const restingShare = 0.05;
/** So many looks in a row: what is cleared away costs time to make anew when work comes back, so a pause between two pieces of work is no rest. */
const restingLooks = 10;
/** Less is not worth it. */
const growthBytes = 8 * 1024 ** 2;

type Collect = (options: { type: 'major'; flavor: 'last-resort' }) => void;

/** V8 gives its collector to contexts that are made while this flag is set. */
function collector(): Collect {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as Collect;
  setFlagsFromString('--no-expose-gc');
  return collect;
}

/**
 * From now on this process, whenever it has rested for half a minute after it has worked, clears its heap away and gives the room back to the
 * machine. V8 does so only where memory runs short: it keeps the 64 MiB in which requests and steps leave what is of no use any more, and whatever
 * the start has left.
 */
export function shrinkAtRest(lookMs = 3_000): void {
  const collect = collector();
  let before = performance.eventLoopUtilization();
  let atRestBytes = 0;
  let rested = 0;
  setInterval(() => {
    const now = performance.eventLoopUtilization();
    const { utilization } = performance.eventLoopUtilization(now, before);
    before = now;
    rested = utilization > restingShare ? 0 : rested + 1;
    if (rested < restingLooks) return;
    if (getHeapStatistics().total_heap_size < atRestBytes + growthBytes) return;
    collect({ type: 'major', flavor: 'last-resort' });
    atRestBytes = getHeapStatistics().total_heap_size;
  }, lookMs).unref();
}
