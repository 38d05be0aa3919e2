import { loadBalancers } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Makes a load balancer. */
export const createLoadBalancer = workflow('loadBalancer.create', async (step, { loadBalancerId }) => {
  await step(loadBalancers.make, { loadBalancerId });
});
