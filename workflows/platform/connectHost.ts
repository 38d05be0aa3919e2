import { patched } from '@temporalio/workflow';
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
  if (patched('renewing has steps of its own')) {
    await step(hosts.renewHypervisor, { hostId });
    await step(hosts.renewSwitch, { hostId });
    await step(hosts.renewStorage, { hostId });
  } else {
    await step.earlier(hosts.configureHypervisor, { hostId });
    await step.earlier(hosts.configureSwitch, { hostId });
    await step.earlier(hosts.connectStorage, { hostId });
  }
  await step(hosts.probe, { hostId });
});
