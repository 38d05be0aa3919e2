import { physicalNetworks } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Takes a wire without networks from the hosts. */
export const deletePhysicalNetwork = workflow('physicalNetwork.delete', async (step, { physicalNetworkId }) => {
  const { hostIds } = await step(physicalNetworks.locate, { physicalNetworkId });
  await Promise.all(hostIds.map((hostId) => step(physicalNetworks.unmapHost, { physicalNetworkId, hostId })));
});
