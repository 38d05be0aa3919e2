import { patched } from '@temporalio/workflow';
import { images, placement, volumeRecords, volumes } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Makes a volume: blank, from an image, or from a snapshot. A cached image stays when a later step fails: it is a cache. */
export const createVolume = workflow('volume.create', async (step, { volumeId }) => {
  const { poolId, hostId, uncached } = await step(placement.reserveSpace, { volumeId });
  if (uncached) {
    const { imageId } = await step(volumeRecords.locate, { volumeId });
    if (imageId) await step(images.cache, { hostId, imageId, poolId });
  }
  if (patched('a volume of its own has no seed')) await step(volumes.makeOne, { hostId, volumeId });
  else await step.earlier(volumes.make, { hostId, volumeIds: [volumeId] });
  return { poolId };
});
