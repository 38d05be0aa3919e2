import { ApplicationFailure } from '@temporalio/workflow';
import { volumeRecords, volumes } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Detaches a volume from its instance, live when that runs: the guest lets go of it, or nothing changes. */
export const detachVolume = workflow('volume.detach', async (step, { volumeId }) => {
  const { instanceId, instanceHostId, deviceIndex } = await step(volumeRecords.locate, { volumeId });
  if (!instanceId) throw ApplicationFailure.nonRetryable(`volume ${volumeId} is not attached`, 'INVALID_STATE');
  if (instanceHostId) await step(volumes.unplug, { hostId: instanceHostId, volumeId, instanceId });
  await step(volumeRecords.freeSlot, { volumeId, instanceId, deviceIndex });
});
