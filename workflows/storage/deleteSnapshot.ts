import { saga } from '../saga.ts';
import { snapshots } from '../steps.ts';

export interface DeleteSnapshot {
  snapshotId: string;
}

/** Removes a snapshot; there is no way back. Its data stays, out of sight, while volumes made from it live. */
export async function deleteSnapshot({ snapshotId }: DeleteSnapshot): Promise<void> {
  await saga(async (step) => {
    const { hostId } = await step(snapshots.locate, { snapshotId });
    step.commit();
    await step(snapshots.remove, { snapshotId, hostId });
    await step(snapshots.rejoin, { snapshotId });
  });
}
