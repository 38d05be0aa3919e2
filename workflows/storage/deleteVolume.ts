import { ApplicationFailure } from '@temporalio/workflow';
import { volumeRecords, volumes } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Destroys a volume that no instance has: it lies in the trash until the recovery window ends. */
export const deleteVolume = workflow('volume.delete', async (step, { volumeId }) => {
  const { hostId, instanceId } = await step(volumeRecords.locate, { volumeId });
  if (instanceId)
    throw ApplicationFailure.nonRetryable(
      `volume ${volumeId} is attached to instance ${instanceId}: detach it first`,
      'INVALID_STATE',
    );
  await step(volumes.trash, { hostId, volumeIds: [volumeId] });
});
