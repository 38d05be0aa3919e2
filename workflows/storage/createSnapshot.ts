import { saga } from '../saga.ts';
import { snapshots } from '../steps.ts';

export interface CreateSnapshot {
  snapshotId: string;
}

/** Takes a snapshot of a volume, also of one in use; the guest's file systems are frozen meanwhile where that was asked for. */
export async function createSnapshot({ snapshotId }: CreateSnapshot): Promise<{ frozen: boolean }> {
  return saga(async (step) => {
    const { hostId, freezeInstanceId } = await step(snapshots.locate, { snapshotId });
    const { frozen } = await step(snapshots.take, { snapshotId, hostId, freezeInstanceId });
    await step(snapshots.describe, { snapshotId, frozen });
    return { frozen };
  });
}
