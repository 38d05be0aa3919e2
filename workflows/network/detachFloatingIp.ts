import { floatingIps } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Lets a floating IP lead nowhere. */
export const detachFloatingIp = workflow('floatingIp.detach', async (step, { floatingIpId }) => {
  const { before, after } = await step(floatingIps.plan, { floatingIpId });
  await step(floatingIps.record, { floatingIpId, before, after });
  await step(floatingIps.write, { floatingIpId, before, after });
});
