import { networks } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Removes a network without interfaces and subnets. There is no way back. */
export const deleteNetwork = workflow('network.delete', async (step, { networkId }) => {
  step.commit();
  await step(networks.remove, { networkId });
});
