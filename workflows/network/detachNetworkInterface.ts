import { ApplicationFailure } from '@temporalio/workflow';
import { networkInterfaceRecords, networkInterfaces } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Detaches an interface from its instance, live when that runs: the guest lets go of it, or nothing changes. */
export const detachNetworkInterface = workflow('networkInterface.detach', async (step, { networkInterfaceId }) => {
  const { instanceId, hostId, index, alone } = await step(networkInterfaceRecords.locate, { networkInterfaceId });
  if (!instanceId)
    throw ApplicationFailure.nonRetryable(`network interface ${networkInterfaceId} is not attached`, 'INVALID_STATE');
  if (hostId) {
    await step(networkInterfaces.hotUnplug, { networkInterfaceId, instanceId, hostId });
    await step(networkInterfaces.unbindOne, { networkInterfaceId, hostId });
  }
  await step(networkInterfaceRecords.freeSlot, { networkInterfaceId, instanceId, index, alone });
});
