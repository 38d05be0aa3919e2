import { vpcs } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Gives a VPC a further way out, with an address of its own there. */
export const attachUplinkVpc = workflow('vpc.attachUplink', async (step, { vpcId, uplinkId, ...wanted }) => {
  await step(vpcs.takeUplink, { vpcId, uplinkId, ...wanted });
  await step(vpcs.connectUplink, { vpcId, uplinkId });
});
