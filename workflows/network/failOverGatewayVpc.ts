import { vpcs } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Lets another gateway host carry what goes out. */
export const failOverGatewayVpc = workflow('vpc.failOverGateway', async (step, { vpcId, hostId }) => {
  const { before, after } = await step(vpcs.planFailOver, { vpcId, hostId });
  await step(vpcs.orderGateways, { vpcId, before, after });
  await step(vpcs.recordGateways, { vpcId, before, after });
});
