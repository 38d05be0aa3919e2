import { storagePools } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Removes the copies of images that nothing in the pool lives on. One that is removed is made anew when something needs it: there is no other way back. */
export const cleanCacheStoragePool = workflow(
  'storagePool.cleanCache',
  async (step, { storagePoolId, unusedForSeconds }) => {
    const { hostId } = await step(storagePools.locate, { storagePoolId });
    step.commit();
    return step(storagePools.cleanCache, { storagePoolId, hostId, unusedForSeconds });
  },
);
