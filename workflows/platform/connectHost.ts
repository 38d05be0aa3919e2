import { hosts } from '../steps.ts';
import { workflow } from '../workflow.ts';

/**
 * Reconnects a host and brings its agent up to date. Guests run on.
 *
 * When it fails the agent before is back; settings are renewed only, so they have nothing to go back to.
 */
export const connectHost = workflow('host.connect', async (step, { hostId }) => {
  await step(hosts.reach, { hostId });
  await step(hosts.installAgent, { hostId });
  await step(hosts.configureHypervisor, { hostId });
  await step(hosts.configureSwitch, { hostId });
  await step(hosts.connectStorage, { hostId });
  await step(hosts.probe, { hostId });
});
