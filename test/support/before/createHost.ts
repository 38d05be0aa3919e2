/** `createHost` as it was when each thing that happens at a host was a step of its own. */
import { saga } from '../../../workflows/saga.ts';
import { hosts } from '../../../workflows/steps.ts';

export async function createHost({ hostId }: { hostId: string }): Promise<void> {
  await saga(async (step) => {
    await step(hosts.reach, { hostId });
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
