import { patched } from '@temporalio/workflow';
import { networkInterfaces, waysIn } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Removes an interface that is attached to nothing, after what leads to it. There is no way back once its port is gone. */
export const deleteNetworkInterface = workflow('networkInterface.delete', async (step, { networkInterfaceId }) => {
  if (patched('what leads to it lets go')) {
    const { ways } = await step(waysIn.find, { networkInterfaceId });
    if (ways.length > 0) {
      await step(waysIn.close, { ways });
      await step(waysIn.forget, { ways });
    }
  }
  step.commit();
  await step(networkInterfaces.removeOne, { networkInterfaceId });
});
