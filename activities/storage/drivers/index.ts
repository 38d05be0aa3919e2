/** The driver of each type of pool, and what is asked of all of them. */
import { inability, type PoolCan, type PoolType, poolTypeNames, poolTypes } from '../../../model/storage/poolTypes.ts';
import { refuse } from '../../failure.ts';
import type { World } from '../../world.ts';
import { alignHeartbeats, endHeartbeats } from '../heartbeats.ts';
import type { DiskAccess, Pool, StorageDriver } from './driver.ts';
import { fileDriver } from './file.ts';
import { rbd } from './rbd.ts';

export const drivers = {
  rbd,
  local: fileDriver('local'),
  sharedMount: fileDriver('sharedMount'),
  nfs: fileDriver('nfs'),
} satisfies Record<PoolType, StorageDriver>;

export const driverOf = ({ type }: Pool): StorageDriver => drivers[type];

/** The same as acceptance asks: what waited for its turn may find another pool than was expected. @throws NOT_SUPPORTED */
export function mustBeAble(pool: Pool, ability: keyof PoolCan): void {
  if (!poolTypes[pool.type].can[ability])
    throw refuse('NOT_SUPPORTED', `its storage pool is of type ${pool.type}, which ${inability[ability]}`);
}

type HostOfZone = { id: string; zoneId: string | null };

const each = async (work: (driver: StorageDriver) => Promise<void>): Promise<void> => {
  for (const driver of Object.values<StorageDriver>(drivers)) await work(driver);
};

/** A host's way to every pool that its cluster reaches, and its heartbeats there. */
export async function connectStorage(world: World, host: HostOfZone): Promise<void> {
  await each((driver) => driver.connectHost(world, host));
  await alignHeartbeats(world, host.id);
}
export async function disconnectStorage(world: World, host: HostOfZone): Promise<void> {
  await endHeartbeats(world, host.id);
  await each((driver) => driver.disconnectHost(world, host));
}
/** Of a host that is lost, from outside. */
export const disownStorage = (world: World, host: HostOfZone) => each((driver) => driver.disownHost(world, host));

/** Shuts a host that has failed out of whatever can shut it out. */
export const fenceStorage = (world: World, host: HostOfZone) => each((driver) => driver.fenceHost(world, host));
export const unfenceStorage = (world: World, host: HostOfZone) => each((driver) => driver.unfenceHost(world, host));
export const proveStorageWritable = (world: World, host: HostOfZone) =>
  each((driver) => driver.proveWritable(world, host));

export async function isFencedInStorage(world: World, host: HostOfZone, atHand: string): Promise<boolean> {
  const all = Object.values<StorageDriver>(drivers).map((driver) => driver.isFenced(world, host, atHand));
  return (await Promise.all(all)).every(Boolean);
}

/** What a host needs to open disks, in these pools, of a guest that comes to it. */
export async function diskAccess(world: World, hostId: string, pools: Pool[]): Promise<DiskAccess> {
  const all = await Promise.all(
    poolTypeNames.map((type) =>
      drivers[type].diskAccess(
        world,
        hostId,
        pools.filter((pool) => pool.type === type),
      ),
    ),
  );
  const sharedPools = [...new Set(all.flatMap((access) => access.sharedPools ?? []))];
  return { ...Object.assign({ ...noAccess }, ...all), ...(sharedPools.length > 0 ? { sharedPools } : {}) };
}

/** Where nothing is to be opened. */
export const noAccess: DiskAccess = { cephUsers: {} };
