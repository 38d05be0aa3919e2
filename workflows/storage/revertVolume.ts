import { ApplicationFailure } from '@temporalio/workflow';
import { snapshots, volumeRecords, volumes } from '../steps.ts';
import { workflow } from '../workflow.ts';

/**
 * Returns a volume that is not in use to one of its snapshots, and to the size it had then.
 *
 * A safety snapshot holds what the volume has now; there is no way back once that is dropped.
 */
export const revertVolume = workflow('volume.revert', async (step, { volumeId, snapshotId }) => {
  const { hostId, instanceHostId, sizeGib: fromSizeGib } = await step(volumeRecords.locate, { volumeId });
  if (instanceHostId) throw ApplicationFailure.nonRetryable(`volume ${volumeId} is in use`, 'INVALID_STATE');
  const { sizeGib } = await step(snapshots.locate, { snapshotId });
  await step(volumes.takeSafetySnapshot, { hostId, volumeId });
  await step(volumes.rollBack, { hostId, volumeId, snapshotId });
  await step(volumeRecords.recordSize, { volumeId, sizeGib, fromSizeGib });
  step.commit();
  await step(volumes.dropSafetySnapshot, { hostId, volumeId });
});
