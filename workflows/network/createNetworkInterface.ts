import { networkInterfaces } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Makes an interface of its own: its port is there, and bound to no host. */
export const createNetworkInterface = workflow('networkInterface.create', async (step, { networkInterfaceId }) => {
  await step(networkInterfaces.makeOne, { networkInterfaceId });
});
