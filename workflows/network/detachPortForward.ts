import { waysIn } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Lets a port forward lead nowhere. Its ports stay its own. */
export const detachPortForward = workflow('portForward.detach', async (step, { portForwardId }) => {
  const { ways } = await step(waysIn.find, { portForwardId });
  await step(waysIn.close, { ways });
  await step(waysIn.forget, { ways });
});
