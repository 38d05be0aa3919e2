import { physicalNetworks } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Tells of a wire. Every host is looked at before the first one is led to it; hosts that come later are led to it as they connect. */
export const createPhysicalNetwork = workflow('physicalNetwork.create', async (step, { physicalNetworkId }) => {
  const { hostIds } = await step(physicalNetworks.locate, { physicalNetworkId });
  await Promise.all(hostIds.map((hostId) => step(physicalNetworks.checkHost, { physicalNetworkId, hostId })));
  await Promise.all(hostIds.map((hostId) => step(physicalNetworks.mapHost, { physicalNetworkId, hostId })));
});
