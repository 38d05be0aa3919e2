import { snapshots } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Removes a snapshot; there is no way back. Its data stays, out of sight, while volumes made from it live. */
export const deleteSnapshot = workflow('snapshot.delete', async (step, { snapshotId }) => {
  const { hostId } = await step(snapshots.locate, { snapshotId });
  step.commit();
  await step(snapshots.remove, { snapshotId, hostId });
  await step(snapshots.rejoin, { snapshotId });
});
