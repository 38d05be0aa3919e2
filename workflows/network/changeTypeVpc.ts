import { vpcs } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Lets a VPC be of another router type, carried by as many hosts as that says. */
export const changeTypeVpc = workflow('vpc.changeType', async (step, { vpcId, routerTypeId }) => {
  const { types } = await step(vpcs.planType, { vpcId, routerTypeId });
  const [before, after] = [types.before.hostIds, types.after.hostIds];
  if (before.join() !== after.join()) await step(vpcs.orderGateways, { vpcId, before, after });
  await step(vpcs.recordType, { vpcId, types });
});
