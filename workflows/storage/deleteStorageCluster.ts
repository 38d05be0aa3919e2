import { saga } from '../saga.ts';
import { storageClusters } from '../steps.ts';

export interface DeleteStorageCluster {
  storageClusterId: string;
}

/** Forgets a Ceph cluster without pools. There is no way back from the first user that is removed there. */
export async function deleteStorageCluster({ storageClusterId }: DeleteStorageCluster): Promise<void> {
  await saga(async (step) => {
    const { hostId } = await step(storageClusters.locate, { storageClusterId });
    step.commit();
    // Without a host in the zone there is nobody who could have a user, and nobody who could remove it.
    if (hostId) await step(storageClusters.leave, { storageClusterId, hostId });
  });
}
