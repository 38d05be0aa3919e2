import { firewallPolicies } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Writes the rows of a firewall policy anew. It only goes forward: the undo would open what it closes. */
export const repairFirewallPolicy = workflow('firewallPolicy.repair', async (step, { firewallPolicyId }) => {
  step.commit();
  await step(firewallPolicies.make, { firewallPolicyId });
});
