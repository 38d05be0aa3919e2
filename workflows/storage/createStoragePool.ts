import { saga } from '../saga.ts';
import { storagePools } from '../steps.ts';

export interface CreateStoragePool {
  storagePoolId: string;
}

/** Makes or adopts a pool, and gives every connected host of its clusters access. Hosts that come later get theirs as they connect. */
export async function createStoragePool({ storagePoolId }: CreateStoragePool): Promise<void> {
  await saga(async (step) => {
    const { hostId, hostIds } = await step(storagePools.locate, { storagePoolId });
    await step(storagePools.make, { storagePoolId, hostId });
    await Promise.all(hostIds.map((id) => step(storagePools.connectHost, { storagePoolId, hostId: id })));
  });
}
