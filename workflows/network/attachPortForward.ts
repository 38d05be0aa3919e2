import { portForwards } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Lets a port forward that leads nowhere lead to an interface. */
export const attachPortForward = workflow('portForward.attach', async (step, { portForwardId, networkInterfaceId }) => {
  const { target } = await step(portForwards.plan, { portForwardId, networkInterfaceId });
  await step(portForwards.record, { portForwardId, target });
  await step(portForwards.make, { portForwardId });
});
