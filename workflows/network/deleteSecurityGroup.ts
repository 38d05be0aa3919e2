import { patched } from '@temporalio/workflow';
import { securityGroups } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Removes a group that no interface carries and no rule names. There is no way back. */
export const deleteSecurityGroup = workflow('securityGroup.delete', async (step, { securityGroupId }) => {
  if (patched('rules may name it')) await step(securityGroups.proveUnused, { securityGroupId });
  step.commit();
  await step(securityGroups.remove, { securityGroupId });
});
