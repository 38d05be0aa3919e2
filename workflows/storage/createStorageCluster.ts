import { ApplicationFailure } from '@temporalio/workflow';
import { storageClusters } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Registers a Ceph cluster once it answers to its administrator's key. Nothing is changed there. */
export const createStorageCluster = workflow('storageCluster.create', async (step, { storageClusterId }) => {
  const { hostId } = await step(storageClusters.locate, { storageClusterId });
  if (!hostId)
    throw ApplicationFailure.nonRetryable(
      'no host of the zone is connected: one must speak to the storage cluster, so add a host first',
      'PRECONDITION_FAILED',
    );
  await step(storageClusters.check, { storageClusterId, hostId });
});
