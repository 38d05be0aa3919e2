import { instances, volumeRecords, volumes } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Frees a destroyed instance for good. There is no way back from the first image that is removed. */
export const expungeInstance = workflow('instance.expunge', async (step, { instanceId }) => {
  const { storageHostId, volumeIds } = await step(instances.locate, { instanceId });
  step.commit();
  await step(volumes.expunge, { hostId: storageHostId, volumeIds, instanceId });
  await step(instances.forget, { instanceId });
  // No volumes here means that the root volume was asked to be kept.
  if (volumeIds.length === 0) await step(volumeRecords.keepRoot, { instanceId });
});
