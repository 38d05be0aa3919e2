import { saga } from '../saga.ts';
import { securityGroups } from '../steps.ts';

export interface CreateSecurityGroup {
  securityGroupId: string;
}

/** Makes a security group with its rules. */
export async function createSecurityGroup({ securityGroupId }: CreateSecurityGroup): Promise<void> {
  await saga(async (step) => {
    await step(securityGroups.make, { securityGroupId });
  });
}
