import { firewallPolicies } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Replaces all rules at once. There is no way back once the records hold the new ones: the undo takes the old ones from there. */
export const setRulesFirewallPolicy = workflow(
  'firewallPolicy.setRules',
  async (step, { firewallPolicyId, rules, defaults }) => {
    await step(firewallPolicies.replaceRules, { firewallPolicyId, rules, defaults });
    step.commit();
    await step(firewallPolicies.recordRules, { firewallPolicyId, rules, defaults });
  },
);
