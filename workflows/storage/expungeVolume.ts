import { volumeRecords, volumes } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Frees a destroyed volume for good. There is no way back once its image is removed. */
export const expungeVolume = workflow('volume.expunge', async (step, { volumeId }) => {
  const { hostId } = await step(volumeRecords.locate, { volumeId });
  step.commit();
  await step(volumes.expunge, { hostId, volumeIds: [volumeId] });
});
