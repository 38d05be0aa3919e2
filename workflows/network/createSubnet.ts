import { saga } from '../saga.ts';
import { subnets } from '../steps.ts';

export interface CreateSubnet {
  subnetId: string;
}

/** Makes a subnet: the options that OVN answers DHCP with. */
export async function createSubnet({ subnetId }: CreateSubnet): Promise<void> {
  await saga(async (step) => {
    await step(subnets.make, { subnetId });
  });
}
