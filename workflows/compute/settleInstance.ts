import { saga } from '../saga.ts';
import { hypervisor, instances, networkInterfaces, placement } from '../steps.ts';

export interface SettleInstance {
  instanceId: string;
}

/**
 * Asks the host what the guest is doing, and lets the records follow: one that runs is left alone, one that has stopped by itself is
 * stopped, and gives its room back.
 *
 * Nothing has to be undone: the guest was off before this began.
 */
export async function settleInstance({ instanceId }: SettleInstance): Promise<{ running: boolean }> {
  return saga(async (step) => {
    const { hostId } = await step(instances.locate, { instanceId });
    if (!hostId) return { running: false };
    const { running, reason, askedAt } = await step(hypervisor.observe, { instanceId, hostId });
    if (running) {
      await step(instances.trust, { instanceId, hostId, askedAt });
      return { running };
    }
    await step(hypervisor.turnOff, { instanceId, hostId });
    step.commit();
    await step(networkInterfaces.unbind, { instanceId });
    await step(placement.release, { instanceId });
    await step(instances.becomeStopped, { instanceId, reason });
    return { running };
  });
}
