/** Who may do what in a Ceph cluster: the administrator's key stays in the control plane, every host has a user of its own. */
import { noteClients } from '../../database/fence.ts';
import { hostOfZone } from '../../database/placement.ts';
import { readSecret } from '../../database/secrets.ts';
import { from, statement, type Values } from '../../database/statement.ts';
import type { HostInStep } from '../../host-agent/connection.ts';
import type { CephAccess } from '../../host-agent/protocol.ts';
import { refuse, tryAgain } from '../failure.ts';
import { ifItAnswers } from '../silence.ts';
import type { World } from '../world.ts';
import { zoneAgent } from './poolHost.ts';

const clustersOfHost = statement((p: Values<{ hostId: string }>) =>
  from
    .selectFrom('storageCluster as s')
    .innerJoin('host as h', 'h.zoneId', 's.zoneId')
    .select('s.id')
    .where('h.id', '=', p.hostId)
    .where('s.deletedAt', 'is', null),
);

const entryOf = statement((p: Values<{ id: string }>) =>
  from.selectFrom('storageCluster').select(['monitors', 'fsid', 'adminUser']).where('id', '=', p.id),
);

const reachedPools = statement((p: Values<{ hostId: string; storageClusterId: string }>) =>
  from
    .selectFrom('storagePool as p')
    .innerJoin('host as h', (join) => join.on((eb) => eb('h.clusterId', '=', eb.fn.any('p.clusterIds'))))
    .select('p.pool')
    .distinct()
    .where('h.id', '=', p.hostId)
    .where('p.storageClusterId', '=', p.storageClusterId)
    .where('p.capacity', 'is not', null)
    .where('p.deletedAt', 'is', null)
    .orderBy('p.pool'),
);

/** One user per host, so that a lost host loses its rights alone. */
export const cephUser = (hostId: string): string => `belay-${hostId}`;

/** A host's user in every storage cluster of its zone, by the cluster's id. */
export async function cephUsers(world: World, hostId: string): Promise<Record<string, string>> {
  const clusters = await clustersOfHost(world.database.connections, { hostId });
  return Object.fromEntries(clusters.map(({ id }) => [id, cephUser(hostId)]));
}

export async function adminAccess(world: World, storageClusterId: string): Promise<CephAccess> {
  const [[cluster], key] = await Promise.all([
    entryOf(world.database.connections, { id: storageClusterId }),
    readSecret(world.database, { kind: 'storageCluster', id: storageClusterId }, 'adminKey'),
  ]);
  if (!cluster || !key)
    throw refuse('PRECONDITION_FAILED', `storage cluster ${storageClusterId} has no administrator's key`);
  return { storageClusterId, monitors: cluster.monitors, fsid: cluster.fsid, user: cluster.adminUser, key };
}

/** The pools of a storage cluster that exist and that a host's cluster reaches. */
export async function poolsOf(world: World, hostId: string, storageClusterId: string): Promise<string[]> {
  const rows = await reachedPools(world.database.connections, { hostId, storageClusterId });
  return rows.flatMap(({ pool }) => pool ?? []);
}

/** Takes a host's rights, and what it keeps of the cluster. */
export async function revokeAccess(agent: HostInStep, hostId: string, admin: CephAccess): Promise<void> {
  await agent.call('storage.ensureDisconnected', { storageClusterId: admin.storageClusterId });
  await agent.call('ceph.ensureUserAbsent', { access: admin, user: cephUser(hostId) });
}

/**
 * Makes a host's rights in a storage cluster what the records say: `profile rbd` on the pools it reaches, or none at all. One that does not
 * answer is given its rights, or loses them, from another host of its zone; what it keeps of the cluster is renewed when it is connected.
 *
 * Pools come and go while others do, and each change aligns the hosts. So the records are read again after the rights are set:
 * whoever writes last has seen them all.
 */
export async function alignAccess(
  world: World,
  hostId: string,
  storageClusterId: string,
  zoneId: string | null,
): Promise<void> {
  const admin = await adminAccess(world, storageClusterId);
  const own = await ifItAnswers(world, hostId);
  const agent = own ?? (await zoneAgent(world, hostId, zoneId));
  const user = cephUser(hostId);
  let pools = await poolsOf(world, hostId, storageClusterId);
  for (let turn = 0; turn < 5; turn++) {
    if (pools.length === 0) {
      await own?.call('storage.ensureDisconnected', { storageClusterId });
      await agent.call('ceph.ensureUserAbsent', { access: admin, user });
    } else {
      const { key } = await agent.call('ceph.ensureUser', { access: admin, user, pools });
      const known = await own?.call('storage.ensureConnected', { ...admin, user, key });
      // An agent of an older version does not say.
      if (known?.addresses?.length)
        await noteClients(world.database.connections, {
          hostId,
          storageClusterId,
          addresses: known.addresses,
        });
    }
    const now = await poolsOf(world, hostId, storageClusterId);
    if (now.join() === pools.join()) return;
    pools = now;
  }
  throw tryAgain('RESOURCE_BUSY', `the pools of storage cluster ${storageClusterId} keep changing`);
}

/** A host of the zone that answers; any will do for the administration of a storage cluster. */
export const anyHostOfZone = (world: World, zoneId: string | null): Promise<string | null> =>
  hostOfZone(world.database.connections, zoneId);
