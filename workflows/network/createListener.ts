import { listeners } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Answers at ports of a load balancer. */
export const createListener = workflow('listener.create', async (step, { listenerId }) => {
  await step(listeners.make, { listenerId });
});
