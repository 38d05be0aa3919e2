import { volumeRecords, volumes } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Brings a destroyed volume back from the trash. */
export const recoverVolume = workflow('volume.recover', async (step, { volumeId }) => {
  const { hostId } = await step(volumeRecords.locate, { volumeId });
  await step(volumes.restore, { hostId, volumeIds: [volumeId] });
});
