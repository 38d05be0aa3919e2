import { firewallPolicies } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Removes a policy that no network carries. There is no way back once its rows are gone. */
export const deleteFirewallPolicy = workflow('firewallPolicy.delete', async (step, { firewallPolicyId }) => {
  await step(firewallPolicies.proveUnused, { firewallPolicyId });
  step.commit();
  await step(firewallPolicies.remove, { firewallPolicyId });
});
