import { saga } from '../saga.ts';
import { hosts } from '../steps.ts';

export interface ConnectHost {
  hostId: string;
}

/**
 * Reconnects a host and brings its agent up to date. Guests run on.
 *
 * When it fails the agent before is back; settings are renewed only, so they have nothing to go back to.
 */
export async function connectHost({ hostId }: ConnectHost): Promise<void> {
  await saga(async (step) => {
    await step(hosts.reach, { hostId });
    await step(hosts.installAgent, { hostId });
    await step(hosts.configureHypervisor, { hostId });
    await step(hosts.configureSwitch, { hostId });
    await step(hosts.connectStorage, { hostId });
    await step(hosts.probe, { hostId });
  });
}
