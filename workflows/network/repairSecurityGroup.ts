import { securityGroups } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Writes the rows of a security group anew. It only goes forward: the undo would close what is in use. */
export const repairSecurityGroup = workflow('securityGroup.repair', async (step, { securityGroupId }) => {
  step.commit();
  await step(securityGroups.make, { securityGroupId });
});
