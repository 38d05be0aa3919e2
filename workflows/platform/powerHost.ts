import { hosts } from '../steps.ts';
import { workflow } from '../workflow.ts';

/**
 * Switches the power of a host by its BMC. Once the command is out there is no way back; but an operating system that was only asked may not obey, and
 * then it has failed.
 */
export const powerHost = workflow('host.power', async (step, { hostId, command, force }) => {
  await step(hosts.checkPower, { hostId, command, force });
  if (command !== 'softOff') step.commit();
  await step(hosts.switchPower, { hostId, command });
  return step(hosts.awaitPower, { hostId, command });
});
