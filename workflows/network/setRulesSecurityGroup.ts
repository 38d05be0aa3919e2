import type { Rule } from '../../activities/network/securityGroup.ts';
import { saga } from '../saga.ts';
import { securityGroups } from '../steps.ts';

export interface SetRulesSecurityGroup {
  securityGroupId: string;
  rules: Rule[];
}

/** Replaces all rules at once. There is no way back once the records hold the new ones: the undo takes the old ones from there. */
export async function setRulesSecurityGroup({ securityGroupId, rules }: SetRulesSecurityGroup): Promise<void> {
  await saga(async (step) => {
    await step(securityGroups.replaceRules, { securityGroupId, rules });
    step.commit();
    await step(securityGroups.recordRules, { securityGroupId, rules });
  });
}
