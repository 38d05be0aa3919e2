import { patched } from '@temporalio/workflow';
import { networkInterfaces, networkRecords, networks, securityGroups, subnets } from '../steps.ts';
import { workflow } from '../workflow.ts';

/**
 * Writes a network's rows anew from the records, from the switch up to the ports.
 *
 * It only goes forward: every step makes what should be there already, and the undo of each would remove what is in use.
 */
export const repairNetwork = workflow('network.repair', async (step, { networkId }) => {
  const contents = await step(networkRecords.contents, { networkId });
  const { subnetIds, securityGroupIds, instances } = contents;
  step.commit();
  await step(networks.make, { networkId });
  for (const subnetId of subnetIds) await step(subnets.make, { subnetId });
  for (const securityGroupId of securityGroupIds) await step(securityGroups.make, { securityGroupId });
  for (const { instanceId, hostId } of instances)
    await step(networkInterfaces.plug, hostId ? { instanceId, hostId } : { instanceId });
  if (patched('interfaces by themselves'))
    for (const networkInterfaceId of contents.networkInterfaceIds)
      await step(networkInterfaces.makeOne, { networkInterfaceId });
});
