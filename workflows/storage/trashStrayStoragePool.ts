import { storagePools } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Puts a disk that leads to no volume into the trash, and never removes it: whoever misses it finds it there. */
export const trashStrayStoragePool = workflow('storagePool.trashStray', async (step, { storagePoolId, volumeId }) => {
  const { hostId } = await step(storagePools.findStray, { storagePoolId, volumeId });
  await step(storagePools.trashStray, { storagePoolId, hostId, volumeId });
});
