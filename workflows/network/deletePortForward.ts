import { portForwards } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Leads ports nowhere any more. There is no way back. */
export const deletePortForward = workflow('portForward.delete', async (step, { portForwardId }) => {
  step.commit();
  await step(portForwards.remove, { portForwardId });
});
