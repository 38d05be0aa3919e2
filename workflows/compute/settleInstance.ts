import { hypervisor, instances, networkInterfaces, placement } from '../steps.ts';
import { workflow } from '../workflow.ts';

/**
 * Asks the host what the guest is doing, and lets the records follow: one that runs is left alone, one that has stopped by itself is
 * stopped, and gives its room back. One that ended with its host, and is to run, is lost until maintenance starts it again.
 *
 * Nothing has to be undone: the guest was off before this began.
 */
export const settleInstance = workflow('instance.settle', async (step, { instanceId }) => {
  const { hostId } = await step(instances.locate, { instanceId });
  if (!hostId) return { running: false };
  const { running, reason, askedAt, isToRunAgain } = await step(hypervisor.observe, { instanceId, hostId });
  if (running) {
    await step(instances.trust, { instanceId, hostId, askedAt });
    return { running };
  }
  if (isToRunAgain) {
    await step(instances.becomeLost, { instanceId });
    return { running };
  }
  await step(hypervisor.turnOff, { instanceId, hostId });
  step.commit();
  await step(networkInterfaces.unbind, { instanceId });
  await step(placement.release, { instanceId });
  await step(instances.becomeStopped, { instanceId, reason });
  return { running };
});
