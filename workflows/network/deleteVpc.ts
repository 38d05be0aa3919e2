import { vpcs } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Removes a VPC without networks. There is no way back. */
export const deleteVpc = workflow('vpc.delete', async (step, { vpcId }) => {
  step.commit();
  await step(vpcs.remove, { vpcId });
});
