import { ApplicationFailure } from '@temporalio/workflow';
import { saga } from '../saga.ts';
import { volumeRecords, volumes } from '../steps.ts';

export interface DeleteVolume {
  volumeId: string;
}

/** Destroys a volume that no instance has: it lies in the trash until the recovery window ends. */
export async function deleteVolume({ volumeId }: DeleteVolume): Promise<void> {
  await saga(async (step) => {
    const { hostId, instanceId } = await step(volumeRecords.locate, { volumeId });
    if (instanceId)
      throw ApplicationFailure.nonRetryable(
        `volume ${volumeId} is attached to instance ${instanceId}: detach it first`,
        'INVALID_STATE',
      );
    await step(volumes.trash, { hostId, volumeIds: [volumeId] });
  });
}
