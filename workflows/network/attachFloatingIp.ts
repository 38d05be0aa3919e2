import { floatingIps } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Lets a floating IP lead to an interface. */
export const attachFloatingIp = workflow('floatingIp.attach', async (step, { floatingIpId, networkInterfaceId }) => {
  const { before, after } = await step(floatingIps.plan, { floatingIpId, networkInterfaceId });
  await step(floatingIps.record, { floatingIpId, before, after });
  await step(floatingIps.write, { floatingIpId, before, after });
});
