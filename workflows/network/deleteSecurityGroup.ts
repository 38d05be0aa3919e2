import { saga } from '../saga.ts';
import { securityGroups } from '../steps.ts';

export interface DeleteSecurityGroup {
  securityGroupId: string;
}

/** Removes a group that no interface carries. There is no way back. */
export async function deleteSecurityGroup({ securityGroupId }: DeleteSecurityGroup): Promise<void> {
  await saga(async (step) => {
    step.commit();
    await step(securityGroups.remove, { securityGroupId });
  });
}
