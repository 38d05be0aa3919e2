import { firewallPolicies } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Makes a firewall policy with its rules. It decides nothing before a network carries it. */
export const createFirewallPolicy = workflow('firewallPolicy.create', async (step, { firewallPolicyId }) => {
  await step(firewallPolicies.make, { firewallPolicyId });
});
