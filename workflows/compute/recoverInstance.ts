import { saga } from '../saga.ts';
import { instances, networkInterfaces, volumes } from '../steps.ts';

export interface RecoverInstance {
  instanceId: string;
}

/** Brings a destroyed instance back, stopped, with its old addresses. Data volumes stay detached. */
export async function recoverInstance({ instanceId }: RecoverInstance): Promise<void> {
  await saga(async (step) => {
    const { storageHostId, volumeIds } = await step(instances.locate, { instanceId });
    if (volumeIds.length > 0) await step(volumes.restore, { hostId: storageHostId, volumeIds });
    await step(networkInterfaces.plug, { instanceId });
  });
}
