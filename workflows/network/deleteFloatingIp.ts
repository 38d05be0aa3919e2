import { floatingIps } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Gives a floating IP back. There is no way back: it may be somebody else's then. */
export const deleteFloatingIp = workflow('floatingIp.delete', async (step, { floatingIpId }) => {
  step.commit();
  await step(floatingIps.remove, { floatingIpId });
});
