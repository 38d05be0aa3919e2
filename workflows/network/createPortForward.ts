import { portForwards } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Leads ports of a floating IP to an interface. */
export const createPortForward = workflow('portForward.create', async (step, { portForwardId }) => {
  await step(portForwards.make, { portForwardId });
});
