import { patched } from '@temporalio/workflow';
import { saga } from '../saga.ts';
import { hosts } from '../steps.ts';

export interface CreateHost {
  hostId: string;
}

/**
 * Adds a host that has SSH and nothing else. When a step fails, the host is as it was found.
 *
 * The platform's key comes first, so that all others, and their undos, come in by it; the caller's credential is then forgotten.
 */
export async function createHost({ hostId }: CreateHost): Promise<void> {
  await saga(async (step) => {
    await step(hosts.reach, { hostId });
    if (patched('what happens at one place is one step')) {
      await step(hosts.install, { hostId });
      await step(hosts.configure, { hostId });
      await step(hosts.enable, { hostId });
      return;
    }
    await step(hosts.authorizeKey, { hostId });
    await step(hosts.installPackages, { hostId });
    await step(hosts.installAgent, { hostId });
    await step(hosts.configureHypervisor, { hostId });
    await step(hosts.configureSwitch, { hostId });
    await step(hosts.connectStorage, { hostId });
    await step(hosts.probe, { hostId });
    await step(hosts.enable, { hostId });
  });
}
