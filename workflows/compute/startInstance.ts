import { saga } from '../saga.ts';
import { hypervisor, networkInterfaces, placement } from '../steps.ts';

export interface StartInstance {
  instanceId: string;
}

/** Starts a stopped instance, on its last host when that has room. Its disks stay where they are. */
export async function startInstance({ instanceId }: StartInstance): Promise<{ hostId: string }> {
  return saga(async (step) => {
    const { hostId } = await step(placement.reserve, { instanceId });
    await step(networkInterfaces.bind, { instanceId, hostId });
    await step(hypervisor.boot, { instanceId, hostId });
    await step(networkInterfaces.awaitUp, { instanceId, hostId });
    return { hostId };
  });
}
