import { snapshots } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Takes a snapshot of a volume, also of one in use; the guest's file systems are frozen meanwhile where that was asked for. */
export const createSnapshot = workflow('snapshot.create', async (step, { snapshotId }) => {
  const { hostId, freezeInstanceId } = await step(snapshots.locate, { snapshotId });
  const { frozen } = await step(snapshots.take, { snapshotId, hostId, freezeInstanceId });
  await step(snapshots.describe, { snapshotId, frozen });
  return { frozen };
});
