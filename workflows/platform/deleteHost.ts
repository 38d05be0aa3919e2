import { saga } from '../saga.ts';
import { hosts } from '../steps.ts';

export interface DeleteHost {
  hostId: string;
  /** For a host that will never answer again: what can only be done on it is left undone. */
  force?: boolean;
}

/** Removes an empty host and leaves it as it was found. There is no way back once its cleaning has begun. */
export async function deleteHost({ hostId, force = false }: DeleteHost): Promise<void> {
  await saga(async (step) => {
    await step(hosts.disable, { hostId });
    step.commit();
    await step(hosts.clean, { hostId, force });
    await step(hosts.uninstall, { hostId, force });
    await step(hosts.forget, { hostId });
  });
}
