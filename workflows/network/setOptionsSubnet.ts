import { subnets } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Changes what DHCP tells guests. There is no way back once the records hold it: the undo takes what was told before from there. */
export const setOptionsSubnet = workflow('subnet.setOptions', async (step, { subnetId, ...options }) => {
  await step(subnets.rewrite, { subnetId, options });
  step.commit();
  await step(subnets.recordOptions, { subnetId, options });
});
