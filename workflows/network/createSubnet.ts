import { subnets } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Makes a subnet: the options that OVN answers DHCP with. */
export const createSubnet = workflow('subnet.create', async (step, { subnetId }) => {
  await step(subnets.make, { subnetId });
});
