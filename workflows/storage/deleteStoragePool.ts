import { saga } from '../saga.ts';
import { storagePools } from '../steps.ts';

export interface DeleteStoragePool {
  storagePoolId: string;
}

/** Removes an empty pool, or forgets one that the platform did not make. There is no way back from the first cached image removed. */
export async function deleteStoragePool({ storagePoolId }: DeleteStoragePool): Promise<void> {
  await saga(async (step) => {
    const { hostId, hostIds } = await step(storagePools.locate, { storagePoolId });
    step.commit();
    await step(storagePools.remove, { storagePoolId, hostId });
    await Promise.all(hostIds.map((id) => step(storagePools.disconnectHost, { storagePoolId, hostId: id })));
  });
}
