import { physicalNetworks } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Takes the wire from the hosts of a cluster that has nothing on it. Nothing is placed there from the first step on. */
export const detachClusterPhysicalNetwork = workflow(
  'physicalNetwork.detachCluster',
  async (step, { physicalNetworkId, clusterId }) => {
    const { hostIds } = await step(physicalNetworks.locate, { physicalNetworkId, clusterId });
    await step(physicalNetworks.dropCluster, { physicalNetworkId, clusterId });
    await Promise.all(hostIds.map((hostId) => step(physicalNetworks.unmapHost, { physicalNetworkId, hostId })));
  },
);
