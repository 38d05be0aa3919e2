import { saga } from '../saga.ts';
import { storagePools } from '../steps.ts';

export interface CleanCacheStoragePool {
  storagePoolId: string;
  unusedForSeconds?: number;
}

/** Removes the copies of images that nothing in the pool lives on. One that is removed is made anew when something needs it: there is no other way back. */
export async function cleanCacheStoragePool({
  storagePoolId,
  unusedForSeconds = 86_400,
}: CleanCacheStoragePool): Promise<{ imageIds: string[] }> {
  return saga(async (step) => {
    const { hostId } = await step(storagePools.locate, { storagePoolId });
    step.commit();
    return step(storagePools.cleanCache, { storagePoolId, hostId, unusedForSeconds });
  });
}
