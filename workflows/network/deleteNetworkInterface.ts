import { networkInterfaces } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Removes an interface that is attached to nothing. There is no way back once its port is gone. */
export const deleteNetworkInterface = workflow('networkInterface.delete', async (step, { networkInterfaceId }) => {
  step.commit();
  await step(networkInterfaces.removeOne, { networkInterfaceId });
});
