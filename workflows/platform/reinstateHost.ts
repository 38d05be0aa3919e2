import { patched } from '@temporalio/workflow';
import { hosts } from '../steps.ts';
import { workflow } from '../workflow.ts';

/**
 * Takes a host back that was shut out. What it still runs may run elsewhere by now, so that is ended before its storage is opened to it; then its
 * agent and settings are brought up to date as by `host.connect`, and it has to write to its storage.
 */
export const reinstateHost = workflow('host.reinstate', async (step, { hostId }) => {
  if (patched('it is switched on')) {
    const { off } = await step(hosts.lookAtPower, { hostId });
    if (off) await step(hosts.wake, { hostId });
  }
  await step(hosts.reach, { hostId });
  await step(hosts.installAgent, { hostId });
  await step(hosts.clearStrays, { hostId });
  if (patched('it loses a key that was replaced')) await step(hosts.dropCredentials, { hostId });
  await step(hosts.unfence, { hostId });
  await step(hosts.renewHypervisor, { hostId });
  await step(hosts.renewSwitch, { hostId });
  await step(hosts.renewStorage, { hostId });
  await step(hosts.probe, { hostId });
  await step(hosts.proveWritable, { hostId });
  step.commit();
  await step(hosts.readmit, { hostId });
});
