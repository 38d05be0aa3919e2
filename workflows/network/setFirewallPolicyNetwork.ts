import { networks } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Puts all ports of a network under another firewall policy, or under none, in one transaction. */
export const setFirewallPolicyNetwork = workflow(
  'network.setFirewallPolicy',
  async (step, { networkId, firewallPolicyId, formerFirewallPolicyId }) => {
    await step(networks.carryFirewallPolicy, { networkId, firewallPolicyId, formerFirewallPolicyId });
  },
);
