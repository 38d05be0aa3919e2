import { loadBalancers } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Removes a load balancer without listeners. There is no way back. */
export const deleteLoadBalancer = workflow('loadBalancer.delete', async (step, { loadBalancerId }) => {
  step.commit();
  await step(loadBalancers.remove, { loadBalancerId });
});
