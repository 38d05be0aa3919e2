import { saga } from '../saga.ts';
import { volumeRecords, volumes } from '../steps.ts';

export interface RecoverVolume {
  volumeId: string;
}

/** Brings a destroyed volume back from the trash. */
export async function recoverVolume({ volumeId }: RecoverVolume): Promise<void> {
  await saga(async (step) => {
    const { hostId } = await step(volumeRecords.locate, { volumeId });
    await step(volumes.restore, { hostId, volumeIds: [volumeId] });
  });
}
