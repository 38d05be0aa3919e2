import { securityGroups } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Removes a group that no interface carries. There is no way back. */
export const deleteSecurityGroup = workflow('securityGroup.delete', async (step, { securityGroupId }) => {
  step.commit();
  await step(securityGroups.remove, { securityGroupId });
});
