import { instances, networkInterfaces, volumes } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Brings a destroyed instance back, stopped, with its old addresses. Data volumes stay detached. */
export const recoverInstance = workflow('instance.recover', async (step, { instanceId }) => {
  const { storageHostId, volumeIds } = await step(instances.locate, { instanceId });
  if (volumeIds.length > 0) await step(volumes.restore, { hostId: storageHostId, volumeIds });
  await step(networkInterfaces.plug, { instanceId });
});
