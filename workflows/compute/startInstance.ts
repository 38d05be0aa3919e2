import { hypervisor, networkInterfaces, placement } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Starts a stopped instance, on its last host when that has room. Its disks stay where they are. */
export const startInstance = workflow('instance.start', async (step, { instanceId }) => {
  const { hostId } = await step(placement.reserve, { instanceId });
  await step(networkInterfaces.bind, { instanceId, hostId });
  await step(hypervisor.boot, { instanceId, hostId });
  await step(networkInterfaces.awaitUp, { instanceId, hostId });
  return { hostId };
});
