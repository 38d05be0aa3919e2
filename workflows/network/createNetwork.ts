import { networks } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Makes a network: its logical switch, closed to what no security group lets in. */
export const createNetwork = workflow('network.create', async (step, { networkId }) => {
  await step(networks.make, { networkId });
});
