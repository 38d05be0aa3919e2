import { subnets } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Removes a subnet without used addresses. There is no way back. */
export const deleteSubnet = workflow('subnet.delete', async (step, { subnetId }) => {
  step.commit();
  await step(subnets.remove, { subnetId });
});
