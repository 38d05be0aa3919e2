import { saga } from '../saga.ts';
import { hypervisor, images, networkInterfaces, placement, volumes } from '../steps.ts';

export interface CreateInstance {
  instanceId: string;
  requestedHostId?: string | null;
  startOnCreate?: boolean;
}

/**
 * Deploys an instance: a host and pools, disks cloned from the image, ports, first boot.
 *
 * Disks and ports do not need each other and are made side by side. A cached image stays when a later step fails: it is a cache.
 */
export async function createInstance({
  instanceId,
  requestedHostId,
  startOnCreate = true,
}: CreateInstance): Promise<{ hostId: string }> {
  return saga(async (step) => {
    const { hostId, uncached, volumeIds } = await step(placement.reserve, {
      instanceId,
      requestedHostId: requestedHostId ?? null,
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
  });
}
