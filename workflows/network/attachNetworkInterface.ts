import { networkInterfaceRecords, networkInterfaces } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Attaches an interface to an instance: in the records, and live when the instance runs. */
export const attachNetworkInterface = workflow(
  'networkInterface.attach',
  async (step, { networkInterfaceId, instanceId }) => {
    const { hostId } = await step(networkInterfaceRecords.reserveSlot, { networkInterfaceId, instanceId });
    if (!hostId) return;
    await step(networkInterfaces.bindOne, { networkInterfaceId, hostId });
    await step(networkInterfaces.hotPlug, { networkInterfaceId, instanceId, hostId });
    await step(networkInterfaces.awaitOne, { networkInterfaceId, instanceId, hostId });
  },
);
