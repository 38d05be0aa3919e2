import { patched } from '@temporalio/workflow';
import {
  hypervisor,
  instances,
  networkInterfaceRecords,
  networkInterfaces,
  placement,
  volumeRecords,
  volumes,
  waysIn,
} from '../steps.ts';
import { workflow } from '../workflow.ts';

/**
 * Destroys an instance, running or stopped: nothing leads to it from outside any more, it is off its host, its ports unplugged, its data volumes detached, its root volume in
 * the trash. All of it can be undone, by a rollback now and by a recovery until the recovery window ends.
 */
export const deleteInstance = workflow('instance.delete', async (step, { instanceId }) => {
  const { hostId, storageHostId, volumeIds } = await step(instances.locate, { instanceId });
  const data = await step(volumeRecords.attached, { instanceId });
  const alone = patched('interfaces outlive it') ? await step(networkInterfaceRecords.attached, { instanceId }) : [];
  if (patched('what leads to it lets go')) {
    const { ways } = await step(waysIn.find, { instanceId });
    if (ways.length > 0) {
      await step(waysIn.close, { ways });
      await step(waysIn.forget, { ways });
    }
  }
  if (hostId) await step(hypervisor.leave, { instanceId, hostId });
  for (const one of alone) {
    if (hostId) await step(networkInterfaces.unbindOne, { ...one, hostId });
    await step(networkInterfaceRecords.freeSlot, { ...one, instanceId, alone: true });
  }
  await step(networkInterfaces.unplug, { instanceId, ...(hostId ? { hostId } : {}) });
  // After the guest has left and before it could be booted again: a rollback boots it with all its disks.
  for (const volume of data) await step(volumeRecords.freeSlot, { instanceId, ...volume });
  // No volumes here means that the root volume was asked to be kept.
  if (volumeIds.length > 0) await step(volumes.trash, { hostId: storageHostId, volumeIds });
  if (hostId) await step(placement.vacate, { instanceId, hostId });
});
