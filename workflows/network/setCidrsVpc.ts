import { vpcs } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Replaces the ranges of a VPC, first in the records, so that no subnet comes that lies in the old ones alone. */
export const setCidrsVpc = workflow('vpc.setCidrs', async (step, { vpcId, cidrs }) => {
  const { before } = await step(vpcs.planCidrs, { vpcId });
  await step(vpcs.recordCidrs, { vpcId, cidrs, before });
  await step(vpcs.replaceCidrs, { vpcId, cidrs, before });
});
