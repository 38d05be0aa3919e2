import { saga } from '../saga.ts';
import { subnets } from '../steps.ts';

export interface DeleteSubnet {
  subnetId: string;
}

/** Removes a subnet without used addresses. There is no way back. */
export async function deleteSubnet({ subnetId }: DeleteSubnet): Promise<void> {
  await saga(async (step) => {
    step.commit();
    await step(subnets.remove, { subnetId });
  });
}
