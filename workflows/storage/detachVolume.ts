import { ApplicationFailure } from '@temporalio/workflow';
import { saga } from '../saga.ts';
import { volumeRecords, volumes } from '../steps.ts';

export interface DetachVolume {
  volumeId: string;
}

/** Detaches a volume from its instance, live when that runs: the guest lets go of it, or nothing changes. */
export async function detachVolume({ volumeId }: DetachVolume): Promise<void> {
  await saga(async (step) => {
    const { instanceId, instanceHostId, deviceIndex } = await step(volumeRecords.locate, { volumeId });
    if (!instanceId) throw ApplicationFailure.nonRetryable(`volume ${volumeId} is not attached`, 'INVALID_STATE');
    if (instanceHostId) await step(volumes.unplug, { hostId: instanceHostId, volumeId, instanceId });
    await step(volumeRecords.freeSlot, { volumeId, instanceId, deviceIndex });
  });
}
