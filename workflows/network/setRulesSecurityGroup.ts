import { securityGroups } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Replaces all rules at once. There is no way back once the records hold the new ones: the undo takes the old ones from there. */
export const setRulesSecurityGroup = workflow('securityGroup.setRules', async (step, { securityGroupId, rules }) => {
  await step(securityGroups.replaceRules, { securityGroupId, rules });
  step.commit();
  await step(securityGroups.recordRules, { securityGroupId, rules });
});
