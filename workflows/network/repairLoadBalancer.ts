import { listeners, loadBalancers } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Writes the rows of a load balancer and its listeners anew. It only goes forward: every undo would remove what is in use. */
export const repairLoadBalancer = workflow('loadBalancer.repair', async (step, { loadBalancerId }) => {
  const { listenerIds } = await step(loadBalancers.contents, { loadBalancerId });
  step.commit();
  await step(loadBalancers.make, { loadBalancerId });
  for (const listenerId of listenerIds) await step(listeners.make, { listenerId });
});
