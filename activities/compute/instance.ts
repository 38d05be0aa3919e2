import { refuse } from '../failure.ts';
import { step } from '../step.ts';
import type { World } from '../world.ts';
import { reachingHost } from './placement.ts';

export interface Located {
  /** Where it runs; null when it does not. */
  hostId: string | null;
  /** Where work on its disks is done. */
  storageHostId: string;
  volumeIds: string[];
}

export const instances = (world: World) => ({
  /** What the records say of where an instance and its own volumes are. */
  locate: step({
    async do({ instanceId }: { instanceId: string }): Promise<Located> {
      const { prisma, pool } = world.database;
      const instance = await prisma.instance.findUniqueOrThrow({ where: { id: instanceId } });
      const root = instance.rootVolumeId
        ? await prisma.volume.findUnique({ where: { id: instance.rootVolumeId } })
        : null;
      if (!root?.poolId) throw refuse('INVALID_STATE', `instance ${instanceId} has no root volume`);
      return {
        hostId: instance.hostId,
        storageHostId: instance.hostId ?? (await reachingHost(pool, root.poolId)),
        volumeIds: instance.keepRootVolume ? [] : [root.id],
      };
    },
  }),

  /** The instance's end in the records, beyond its own state: interfaces free their addresses when the operation leaves them. */
  forget: step({
    async do({ instanceId }: { instanceId: string }) {
      await world.database.prisma.volume.updateMany({
        where: { instanceId, role: 'data' },
        data: { instanceId: null, deviceIndex: null },
      });
    },
  }),
});
