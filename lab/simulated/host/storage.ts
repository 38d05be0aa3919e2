import { Problem } from '../../../host-agent/problem.ts';
import type * as protocol from '../../../host-agent/protocol/storage.ts';
import type { DiskSource, DomainSpec, ImageAddress, PoolAddress } from '../../../host-agent/protocol.ts';
import { findImage, type Image, type Pool } from '../ceph.ts';
import { refuse } from '../problem.ts';
import { type CallHandlers, type FilePool, type Host, nothing } from './host.ts';

export function openPool(host: Host, { storageClusterId, pool }: PoolAddress): Pool {
  const access = host.clusters.get(storageClusterId);
  if (!access)
    throw refuse('PRECONDITION_FAILED', `${host.name} is not connected to storage cluster ${storageClusterId}`);
  if (host.world.ceph.isFenced(host.ip))
    throw refuse('BACKEND_UNAVAILABLE', `The storage cluster has fenced ${host.name}`, true);
  return host.world.ceph.openPool(access, pool);
}

/** For what must not be there: no pool, then no image either. */
export function openPoolIfAny(host: Host, address: PoolAddress): Pool | undefined {
  try {
    return openPool(host, address);
  } catch (error) {
    if (error instanceof Problem && error.code === 'NOT_FOUND') return undefined;
    throw error;
  }
}

/** A pool of files that this host is connected to. */
export function openFilePool(host: Host, poolId: string): FilePool {
  const pool = host.world.filePools.get(poolId);
  if (!pool || !host.filePools.has(poolId))
    throw refuse('PRECONDITION_FAILED', `${host.name} is not connected to storage pool ${poolId}`);
  return pool;
}

export function openImage(host: Host, address: ImageAddress): Image {
  return findImage(openPool(host, address), address.image);
}

/** What a domain opens. */
export function sourcesOf(spec: DomainSpec): DiskSource[] {
  const disks = spec.disks.map(({ source }) => source);
  return spec.seed ? [...disks, spec.seed] : disks;
}

/** Writes of guests on a host that is shut out are refused: QEMU holds them, and Ceph knows nothing of them any more. */
function stallGuests(host: Host): void {
  for (const domain of host.domains.values()) {
    const { live, spec } = domain;
    if (!live || domain.incoming || !sourcesOf(live).some(({ type }) => type === 'rbd')) continue;
    domain.state = 'paused';
    domain.reason = 'ioerror';
    for (const { source } of live.disks)
      if (source.type === 'rbd')
        host.world.ceph.pools.get(source.pool)?.images.get(source.image)?.watchers.delete(`${host.name}/${spec.id}`);
    if (host.world.running.get(spec.id) === host) host.world.running.delete(spec.id);
  }
}

/** Simulated hosts have no block device of their own. */
export function openSource(host: Host, source: DiskSource): Image {
  if (source.type === 'rbd') return openImage(host, source);
  if (source.type === 'file') return findImage(openFilePool(host, source.poolId), `${source.of}-${source.id}`);
  throw refuse('NOT_FOUND', `${host.name} has no ${source.volumeGroup}/${source.volume}`);
}

export const calls: CallHandlers<typeof protocol.calls> = {
  'storage.ensureConnected'(host, access) {
    host.world.ceph.authenticate(access);
    host.clusters.set(access.storageClusterId, access);
    return { addresses: [host.ip] };
  },
  'storage.ensureDisconnected'(host, { storageClusterId }) {
    for (const { live } of host.domains.values())
      if (live && sourcesOf(live).some((one) => one.type === 'rbd' && one.storageClusterId === storageClusterId))
        throw refuse('INVALID_STATE', `Domain ${live.id} runs on storage cluster ${storageClusterId}`);
    host.clusters.delete(storageClusterId);
    return nothing;
  },

  'ceph.status': (host, { access }) => host.world.ceph.status(access),
  'ceph.ensureUser': (host, { access, user, pools }) => host.world.ceph.ensureUser(access, user, pools),
  'ceph.ensureUserAbsent'(host, { access, user }) {
    host.world.ceph.ensureUserAbsent(access, user);
    return nothing;
  },
  'ceph.ensureFenced'(host, { access, addresses }) {
    const { world } = host;
    world.ceph.ensureFenced(access, addresses);
    for (const other of world.hosts.values()) if (addresses.includes(other.ip)) stallGuests(other);
    return nothing;
  },
  'ceph.ensureUnfenced'(host, { access, addresses }) {
    host.world.ceph.ensureUnfenced(access, addresses);
    return nothing;
  },
  'ceph.fenced': (host, { access }) => ({ addresses: host.world.ceph.fencedAddresses(access) }),
  'rbd.proveWritable'(host, address) {
    openPool(host, address);
    return nothing;
  },
  'ceph.ensurePool': (host, { access, ...wanted }) => host.world.ceph.ensurePool(access, wanted),
  'ceph.ensurePoolAbsent'(host, { access, pool, tags }) {
    host.world.ceph.ensurePoolAbsent(access, pool, tags);
    return nothing;
  },
  'ceph.poolStatus': (host, { access, pool }) => host.world.ceph.poolStatus(access, pool),
};
