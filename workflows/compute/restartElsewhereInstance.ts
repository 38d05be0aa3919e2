import { hypervisor, instances, networkInterfaces, placement } from '../steps.ts';
import { workflow } from '../workflow.ts';

/**
 * Starts an instance whose host has failed on another one. It is lost as soon as this has begun, and stays so when it can not be started: its place on
 * the host that failed is not given back to it.
 */
export const restartElsewhereInstance = workflow('instance.restartElsewhere', async (step, { instanceId }) => {
  const { hostId: failedHostId } = await step(instances.lose, { instanceId });
  if (failedHostId) {
    await step(hypervisor.turnOff, { instanceId, hostId: failedHostId });
    await step(networkInterfaces.unbind, { instanceId });
    await step(placement.abandon, { instanceId });
  }
  const { hostId } = await step(placement.reserve, { instanceId, fromReserve: true });
  await step(hypervisor.proveShutOut, { instanceId, hostId });
  await step(networkInterfaces.bind, { instanceId, hostId });
  await step(hypervisor.boot, { instanceId, hostId });
  await step(networkInterfaces.awaitUp, { instanceId, hostId });
  return { hostId };
});
