import { securityGroups } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Makes a security group with its rules. */
export const createSecurityGroup = workflow('securityGroup.create', async (step, { securityGroupId }) => {
  await step(securityGroups.make, { securityGroupId });
});
