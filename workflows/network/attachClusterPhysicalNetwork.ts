import { physicalNetworks } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Leads the hosts of a further cluster to the wire. Nothing is placed there before all of them are. */
export const attachClusterPhysicalNetwork = workflow(
  'physicalNetwork.attachCluster',
  async (step, { physicalNetworkId, clusterId }) => {
    const { hostIds } = await step(physicalNetworks.locate, { physicalNetworkId, clusterId });
    await Promise.all(hostIds.map((hostId) => step(physicalNetworks.checkHost, { physicalNetworkId, hostId })));
    await Promise.all(hostIds.map((hostId) => step(physicalNetworks.mapHost, { physicalNetworkId, hostId })));
    await step(physicalNetworks.addCluster, { physicalNetworkId, clusterId });
  },
);
