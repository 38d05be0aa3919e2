import { from, statement, type Values } from '../../database/statement.ts';
import { refuse } from '../failure.ts';
import { step } from '../step.ts';
import type { World } from '../world.ts';
import { adminAccess, anyHostOfZone, cephUser } from './cephAccess.ts';
import { zoneAgent } from './poolHost.ts';

const awayFrom = statement((p: Values<{ storageClusterId: string }>) =>
  from
    .selectFrom('host as h')
    .innerJoin('storageCluster as c', 'c.zoneId', 'h.zoneId')
    .select('h.id')
    .where('c.id', '=', p.storageClusterId)
    .where('h.deletedAt', 'is', null)
    .where('h.connection', '<>', 'connected'),
);

interface StorageClusterRef {
  storageClusterId: string;
}
interface OnHost extends StorageClusterRef {
  hostId: string;
}

export const storageClusters = (world: World) => {
  const { prisma, connections } = world.database;
  return {
    /** A host of the zone that speaks to the cluster for the control plane; null when none is connected. */
    locate: step({
      system: 'record',
      async do({ storageClusterId }: StorageClusterRef): Promise<{ hostId: string | null }> {
        const cluster = await prisma.storageCluster.findUniqueOrThrow({ where: { id: storageClusterId } });
        return { hostId: await anyHostOfZone(world, cluster.zoneId) };
      },
    }),

    /** It answers, the key opens it, and it is the cluster that was meant. */
    check: step({
      system: 'rbd',
      async do({ storageClusterId, hostId }: OnHost) {
        const access = await adminAccess(world, storageClusterId);
        const { zoneId } = await prisma.storageCluster.findUniqueOrThrow({ where: { id: storageClusterId } });
        const status = await (await zoneAgent(world, hostId, zoneId)).call('ceph.status', { access });
        if (status.fsid !== access.fsid)
          throw refuse(
            'PRECONDITION_FAILED',
            `the cluster at ${access.monitors.join(', ')} is ${status.fsid}, not ${access.fsid}`,
          );
        const { version, health, totalBytes, usedBytes, osds } = status;
        await prisma.storageCluster.update({
          where: { id: storageClusterId },
          data: { version, health: { status: health, totalBytes, usedBytes, osds } },
        });
      },
    }),

    /** Removes the Ceph users of hosts that did not answer when the pools of this cluster were deleted. */
    leave: step({
      system: 'rbd',
      async do({ storageClusterId, hostId }: OnHost) {
        const access = await adminAccess(world, storageClusterId);
        const { zoneId } = await prisma.storageCluster.findUniqueOrThrow({ where: { id: storageClusterId } });
        const agent = await zoneAgent(world, hostId, zoneId);
        const away = await awayFrom(connections, { storageClusterId });
        for (const { id } of away) await agent.call('ceph.ensureUserAbsent', { access, user: cephUser(id) });
      },
    }),
  };
};
