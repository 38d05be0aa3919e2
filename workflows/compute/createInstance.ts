import { hypervisor, images, networkInterfaces, placement, volumes } from '../steps.ts';
import { workflow } from '../workflow.ts';

/**
 * Deploys an instance: a host and pools, disks cloned from the image, ports, first boot.
 *
 * Disks and ports do not need each other and are made side by side. A cached image stays when a later step fails: it is a cache.
 */
export const createInstance = workflow(
  'instance.create',
  async (step, { instanceId, requestedHostId, startOnCreate }) => {
    const { hostId, uncached, volumeIds } = await step(placement.reserve, {
      instanceId,
      requestedHostId,
    });
    for (const { imageId, poolId } of uncached) await step(images.cache, { hostId, imageId, poolId });
    await Promise.all([
      step(volumes.make, { hostId, volumeIds, instanceId }),
      step(networkInterfaces.plug, startOnCreate ? { instanceId, hostId } : { instanceId }),
    ]);
    if (!startOnCreate) {
      await step(placement.vacate, { instanceId, hostId });
      return { hostId };
    }
    await step(hypervisor.boot, { instanceId, hostId });
    await step(networkInterfaces.awaitUp, { instanceId, hostId });
    return { hostId };
  },
);
