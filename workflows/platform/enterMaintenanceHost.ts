import { ApplicationFailure } from '@temporalio/workflow';
import { hosts } from '../steps.ts';
import { workflow } from '../workflow.ts';
import { type Failed, partsOf, runEach } from './many.ts';

/** Somebody may be at work on an instance each time that its turn has come. */
const triesMax = 5;

/**
 * Empties a host. Whoever has left stays where it is, even when another can not leave and the host stays in use: moving back would double
 * the risk for nothing.
 */
export const enterMaintenanceHost = workflow(
  'host.enterMaintenance',
  async (step, { hostId, instances, maxParallel, reason }) => {
    await step(hosts.noteMaintenance, { hostId, reason });
    const type = instances === 'stop' ? 'instance.stop' : 'instance.migrate';
    let left = 0;
    let failed: Failed[] = [];
    const tries = new Map<string, number>();
    for (;;) {
      const there = await step(hosts.findLeaving, { hostId, instances });
      // One that failed may have gone by itself meanwhile, or be about to.
      const mayGo = new Set(there.flatMap(({ id, busy }) => (busy && (tries.get(id) ?? 0) < triesMax ? [id] : [])));
      const staying = failed.filter(({ targetId }) => there.some(({ id }) => id === targetId) && !mayGo.has(targetId));
      if (staying.length > 0)
        throw ApplicationFailure.nonRetryable(
          `${there.length} instances are still on the host; one could not leave: ${staying[0]?.message}`,
          'PARTLY_FAILED',
          partsOf({ succeeded: left, failed: staying }),
        );
      if (there.length === 0) break;
      const pieces = there.map(({ id }) => ({
        about: id,
        // When its turn comes it may be elsewhere.
        request: { type, targetId: id, input: {}, onlyIf: { field: 'hostId', is: hostId } },
      }));
      const ended = await runEach(step, pieces, { maxParallel, stopOnFailure: true });
      left += ended.succeeded;
      failed = ended.failed;
      for (const { targetId } of failed) tries.set(targetId, (tries.get(targetId) ?? 0) + 1);
    }
    await step(hosts.proveEmpty, { hostId });
    return { left };
  },
);
