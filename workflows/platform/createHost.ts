import { patched } from '@temporalio/workflow';
import { hosts } from '../steps.ts';
import { workflow } from '../workflow.ts';

/**
 * Adds a host that has SSH and nothing else. When a step fails, the host is as it was found.
 *
 * The platform's key comes first, so that all others, and their undos, come in by it; the caller's credential is then forgotten.
 */
export const createHost = workflow('host.create', async (step, { hostId }) => {
  await step(hosts.reach, { hostId });
  if (patched('its BMC is reached, too')) await step(hosts.reachBmc, { hostId });
  if (patched('what happens at one place is one step')) {
    await step(hosts.install, { hostId });
    await step(hosts.configure, { hostId });
    await step(hosts.enable, { hostId });
    return;
  }
  await step.earlier(hosts.authorizeKey, { hostId });
  await step.earlier(hosts.installPackages, { hostId });
  await step.earlier(hosts.installAgent, { hostId });
  await step.earlier(hosts.configureHypervisor, { hostId });
  await step.earlier(hosts.configureSwitch, { hostId });
  await step.earlier(hosts.connectStorage, { hostId });
  await step.earlier(hosts.probe, { hostId });
  await step(hosts.enable, { hostId });
});
