import { floatingIps, listeners, loadBalancers, portForwards, routeTables, subnets, vpcs } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Writes all that is at the router of a VPC anew. It only goes forward: every undo would remove what is in use. */
export const repairVpc = workflow('vpc.repair', async (step, { vpcId }) => {
  const {
    subnetIds,
    routeTableIds,
    floatingIpIds = [],
    portForwardIds = [],
    loadBalancerIds = [],
    listenerIds = [],
  } = await step(vpcs.contents, { vpcId });
  await step(vpcs.replaceGateways, { vpcId });
  step.commit();
  await step(vpcs.make, { vpcId });
  for (const subnetId of subnetIds) await step(subnets.make, { subnetId });
  for (const routeTableId of routeTableIds) await step(routeTables.make, { routeTableId });
  for (const floatingIpId of floatingIpIds) await step(floatingIps.rewrite, { floatingIpId });
  for (const portForwardId of portForwardIds) await step(portForwards.make, { portForwardId });
  for (const loadBalancerId of loadBalancerIds) await step(loadBalancers.make, { loadBalancerId });
  for (const listenerId of listenerIds) await step(listeners.make, { listenerId });
});
