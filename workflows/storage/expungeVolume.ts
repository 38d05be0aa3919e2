import { saga } from '../saga.ts';
import { volumeRecords, volumes } from '../steps.ts';

export interface ExpungeVolume {
  volumeId: string;
}

/** Frees a destroyed volume for good. There is no way back once its image is removed. */
export async function expungeVolume({ volumeId }: ExpungeVolume): Promise<void> {
  await saga(async (step) => {
    const { hostId } = await step(volumeRecords.locate, { volumeId });
    step.commit();
    await step(volumes.expunge, { hostId, volumeIds: [volumeId] });
  });
}
