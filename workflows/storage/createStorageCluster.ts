import { ApplicationFailure } from '@temporalio/workflow';
import { saga } from '../saga.ts';
import { storageClusters } from '../steps.ts';

export interface CreateStorageCluster {
  storageClusterId: string;
}

/** Registers a Ceph cluster once it answers to its administrator's key. Nothing is changed there. */
export async function createStorageCluster({ storageClusterId }: CreateStorageCluster): Promise<void> {
  await saga(async (step) => {
    const { hostId } = await step(storageClusters.locate, { storageClusterId });
    if (!hostId)
      throw ApplicationFailure.nonRetryable(
        'no host of the zone is connected: one must speak to the storage cluster, so add a host first',
        'PRECONDITION_FAILED',
      );
    await step(storageClusters.check, { storageClusterId, hostId });
  });
}
