import { ApplicationFailure } from '@temporalio/workflow';
import { hosts } from '../steps.ts';
import { workflow } from '../workflow.ts';
import { type Failed, partsOf, runEach } from './many.ts';

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
    for (;;) {
      const leaving = await step(hosts.findLeaving, { hostId, instances });
      // One that failed may have gone by itself meanwhile.
      const staying = failed.filter(({ targetId }) => leaving.includes(targetId));
      if (staying.length > 0)
        throw ApplicationFailure.nonRetryable(
          `${leaving.length} instances are still on the host; one could not leave: ${staying[0]?.message}`,
          'PARTLY_FAILED',
          partsOf({ succeeded: left, failed: staying }),
        );
      if (leaving.length === 0) break;
      const pieces = leaving.map((targetId) => ({ about: targetId, request: { type, targetId, input: {} } }));
      const ended = await runEach(step, pieces, { maxParallel, stopOnFailure: true });
      left += ended.succeeded;
      failed = ended.failed;
    }
    await step(hosts.proveEmpty, { hostId });
    return { left };
  },
);
