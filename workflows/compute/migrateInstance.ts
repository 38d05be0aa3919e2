import { hypervisor, networkInterfaces, placement } from '../steps.ts';
import { workflow } from '../workflow.ts';

/**
 * Moves a running instance to another host of its cluster without stopping it.
 *
 * Until the switch-over the source goes on as if nothing had been. After it there is no way back: the source copy no longer
 * exists, so what follows only goes forward.
 */
export const migrateInstance = workflow(
  'instance.migrate',
  async (step, { instanceId, hostId, bandwidthBytesPerSec }) => {
    const move = { instanceId, ...(await step(placement.reserveMove, { instanceId, hostId })) };
    const { sourceHostId, targetHostId } = move;
    const source = { instanceId, hostId: sourceHostId };
    await step(networkInterfaces.bindToBoth, move);
    const figures = await step(hypervisor.migrate, { ...source, targetHostId, bandwidthBytesPerSec });
    step.commit();
    await step(networkInterfaces.bindToTarget, { instanceId, targetHostId });
    await step(hypervisor.leaveSource, { ...source, targetHostId });
    await step(placement.settleMove, move);
    return { hostId: targetHostId, ...figures };
  },
);
