import { saga } from '../saga.ts';
import { volumeRecords, volumes } from '../steps.ts';

export interface ResizeVolume {
  volumeId: string;
  sizeGib: number;
}

/**
 * Grows a volume, live when its instance runs.
 *
 * Live there is no way back: the guest sees the new space at once and may write there. Detached, the new space is untouched,
 * and the undo takes it away again.
 */
export async function resizeVolume({ volumeId, sizeGib }: ResizeVolume): Promise<void> {
  await saga(async (step) => {
    const { hostId, instanceHostId, ...volume } = await step(volumeRecords.locate, { volumeId });
    const growth = { volumeId, sizeGib, fromSizeGib: volume.sizeGib };
    await step(volumeRecords.claimGrowth, growth);
    const instanceId = instanceHostId ? volume.instanceId : null;
    if (instanceId) step.commit();
    await step(volumes.grow, { ...growth, hostId, instanceId });
  });
}
