import { saga } from '../saga.ts';
import { instances, volumeRecords, volumes } from '../steps.ts';

export interface ExpungeInstance {
  instanceId: string;
}

/** Frees a destroyed instance for good. There is no way back from the first image that is removed. */
export async function expungeInstance({ instanceId }: ExpungeInstance): Promise<void> {
  await saga(async (step) => {
    const { storageHostId, volumeIds } = await step(instances.locate, { instanceId });
    step.commit();
    await step(volumes.expunge, { hostId: storageHostId, volumeIds, instanceId });
    await step(instances.forget, { instanceId });
    // No volumes here means that the root volume was asked to be kept.
    if (volumeIds.length === 0) await step(volumeRecords.keepRoot, { instanceId });
  });
}
