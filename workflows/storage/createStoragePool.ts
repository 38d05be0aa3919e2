import { storagePools } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Makes or adopts a pool, and gives every connected host of its clusters access. Hosts that come later get theirs as they connect. */
export const createStoragePool = workflow('storagePool.create', async (step, { storagePoolId }) => {
  const { hostId, hostIds } = await step(storagePools.locate, { storagePoolId });
  await step(storagePools.make, { storagePoolId, hostId });
  await Promise.all(hostIds.map((id) => step(storagePools.connectHost, { storagePoolId, hostId: id })));
});
