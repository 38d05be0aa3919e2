import { vpcs } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Makes a VPC: who carries it, and then its router with all that leads outside, at once. */
export const createVpc = workflow('vpc.create', async (step, { vpcId }) => {
  await step(vpcs.chooseGateways, { vpcId });
  await step(vpcs.make, { vpcId });
});
