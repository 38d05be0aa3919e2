import { hosts } from '../steps.ts';
import { workflow } from '../workflow.ts';

/**
 * Removes an empty host and leaves it as it was found; or, by force, one that is gone, and with a confirmation that it is dead also one
 * with guests, which are stopped then. There is no way back once its cleaning has begun.
 */
export const deleteHost = workflow('host.delete', async (step, { hostId, force, confirmDead }) => {
  if (confirmDead) await step(hosts.declareDead, { hostId });
  else await step(hosts.disable, { hostId, force });
  step.commit();
  // Its rights in the storage end first: what was wrongly held for dead can not open its disks again.
  await step(hosts.clean, { hostId, force });
  if (confirmDead) await step(hosts.freeGuests, { hostId });
  await step(hosts.uninstall, { hostId, force });
  await step(hosts.forget, { hostId });
});
