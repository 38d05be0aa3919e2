import { networkInterfaces } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Writes the port of an interface anew from the records. */
export const repairNetworkInterface = workflow('networkInterface.repair', async (step, { networkInterfaceId }) => {
  step.commit();
  await step(networkInterfaces.makeOne, { networkInterfaceId });
});
