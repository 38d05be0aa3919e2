import { networkInterfaceRecords, networkInterfaces } from '../steps.ts';
import { workflow } from '../workflow.ts';

const portOf = <P, G, S, Q>({
  securityGroupIds,
  portSecurity,
  allowedPairs,
  linkUp,
  qos,
}: {
  securityGroupIds: G;
  portSecurity: S;
  allowedPairs: P;
  linkUp: boolean;
  qos: Q;
}) => ({ securityGroupIds, portSecurity, allowedPairs, linkUp, qos });

const renamed = (called: { before: string | null; after: string | null } | null) =>
  called ? { before: { dnsName: called.before } } : {};

/**
 * Changes an interface, live when its instance runs. There is no way back once the records hold what is new: the undo takes what was from there.
 */
export const updateNetworkInterface = workflow(
  'networkInterface.update',
  async (step, { networkInterfaceId, patch }) => {
    const { instanceId, hostId, isLinkChanged, called, after } = await step(networkInterfaceRecords.plan, {
      networkInterfaceId,
      patch,
    });
    if (called) await step(networkInterfaceRecords.takeName, { networkInterfaceId, called });
    await step(networkInterfaces.rewrite, { networkInterfaceId, change: { ...portOf(after), ...renamed(called) } });
    if (isLinkChanged && instanceId && hostId)
      await step(networkInterfaces.setLink, { networkInterfaceId, instanceId, hostId, linkUp: after.linkUp });
    step.commit();
    await step(networkInterfaceRecords.write, { networkInterfaceId, after });
  },
);
