import { saga } from '../saga.ts';
import { volumeRecords, volumes } from '../steps.ts';

export interface AttachVolume {
  volumeId: string;
  instanceId: string;
}

/** Attaches a volume to an instance: in the records, and live when the instance runs. */
export async function attachVolume({ volumeId, instanceId }: AttachVolume): Promise<void> {
  await saga(async (step) => {
    const { hostId } = await step(volumeRecords.reserveSlot, { volumeId, instanceId });
    if (hostId) await step(volumes.plug, { hostId, volumeId, instanceId });
  });
}
