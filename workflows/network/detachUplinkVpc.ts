import { vpcs } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Takes a way out that nothing uses. There is no way back once its address is given back: it may be somebody else's then. */
export const detachUplinkVpc = workflow('vpc.detachUplink', async (step, { vpcId, uplinkId }) => {
  await step(vpcs.proveUplinkUnused, { vpcId, uplinkId });
  await step(vpcs.disconnectUplink, { vpcId, uplinkId });
  step.commit();
  await step(vpcs.dropUplink, { vpcId, uplinkId });
});
