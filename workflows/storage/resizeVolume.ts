import { patched } from '@temporalio/workflow';
import { volumeRecords, volumes } from '../steps.ts';
import { workflow } from '../workflow.ts';

/**
 * Grows a volume, live when its instance runs.
 *
 * Live there is no way back: the guest sees the new space at once and may write there. Detached, the new space is untouched,
 * and the undo takes it away again.
 */
export const resizeVolume = workflow('volume.resize', async (step, { volumeId, sizeGib }) => {
  const { hostId, instanceHostId, ...volume } = await step(volumeRecords.locate, { volumeId });
  const growth = { volumeId, sizeGib, fromSizeGib: volume.sizeGib };
  await step(volumeRecords.claimGrowth, growth);
  const instanceId = instanceHostId ? volume.instanceId : null;
  if (instanceId) step.commit();
  if (instanceId && patched('growing live is a step of its own'))
    await step(volumes.growLive, { volumeId, sizeGib, hostId, instanceId });
  else await step(volumes.grow, { ...growth, hostId, instanceId });
});
