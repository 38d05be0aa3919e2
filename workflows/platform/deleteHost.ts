import { saga } from '../saga.ts';
import { hosts } from '../steps.ts';

export interface DeleteHost {
  hostId: string;
  /** For a host that does not answer: what can only be done on it is left undone. */
  force?: boolean;
  /** It is dead, says an operator: what is on it runs no more, and may run elsewhere. */
  confirmDead?: boolean;
}

/**
 * Removes an empty host and leaves it as it was found; or, by force, one that is gone, and with a confirmation that it is dead also one
 * with guests, which are stopped then. There is no way back once its cleaning has begun.
 */
export async function deleteHost({ hostId, force = false, confirmDead = false }: DeleteHost): Promise<void> {
  await saga(async (step) => {
    if (confirmDead) await step(hosts.declareDead, { hostId });
    else await step(hosts.disable, { hostId, force });
    step.commit();
    // Its rights in the storage end first: what was wrongly held for dead can not open its disks again.
    await step(hosts.clean, { hostId, force });
    if (confirmDead) await step(hosts.freeGuests, { hostId });
    await step(hosts.uninstall, { hostId, force });
    await step(hosts.forget, { hostId });
  });
}
