import { physicalNetworks } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Leads all hosts to the wire anew. It only goes forward: the undo would take what is in use. */
export const repairPhysicalNetwork = workflow('physicalNetwork.repair', async (step, { physicalNetworkId }) => {
  const { hostIds } = await step(physicalNetworks.locate, { physicalNetworkId });
  step.commit();
  await Promise.all(hostIds.map((hostId) => step(physicalNetworks.mapHost, { physicalNetworkId, hostId })));
});
