import { storageClusters } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Forgets a Ceph cluster without pools. There is no way back from the first user that is removed there. */
export const deleteStorageCluster = workflow('storageCluster.delete', async (step, { storageClusterId }) => {
  const { hostId } = await step(storageClusters.locate, { storageClusterId });
  step.commit();
  // Without a host in the zone there is nobody who could have a user, and nobody who could remove it.
  if (hostId) await step(storageClusters.leave, { storageClusterId, hostId });
});
