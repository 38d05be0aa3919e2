import { storagePools } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Removes an empty pool, or forgets one that the platform did not make. There is no way back from the first cached image removed. */
export const deleteStoragePool = workflow('storagePool.delete', async (step, { storagePoolId }) => {
  const { hostId, hostIds } = await step(storagePools.locate, { storagePoolId });
  step.commit();
  await step(storagePools.remove, { storagePoolId, hostId });
  await Promise.all(hostIds.map((id) => step(storagePools.disconnectHost, { storagePoolId, hostId: id })));
});
