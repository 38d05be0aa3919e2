/** What lies in a pool beside the records. */
import { clock, type DiskRow, disksBesideRecords } from '../../database/audit.ts';
import { type Sighting, seeAll } from '../../database/findings.ts';
import { isUuid } from '../../model/forms.ts';
import type { World } from '../world.ts';
import { driverOf } from './drivers/index.ts';
import { poolOf } from './pool.ts';
import { poolAgent } from './poolHost.ts';
import { telling } from './poolMetrics.ts';

const whats = ['volumeStray', 'volumeElsewhere', 'volume', 'volumeTrashed', 'image', 'imageStray', 'seedStray'];

/** What a row comes to; null of one that is as it should be. */
export function sightingOf(row: DiskRow, poolId: string, system: string): Sighting | null {
  const { of, id, found, trashed, state } = row;
  const seen = {
    resourceKind: of === 'seed' ? 'instance' : of,
    resourceId: id,
    system,
    location: poolId,
    severity: 'warning' as const,
  };
  if (of !== 'volume') {
    if (found && state === null)
      return {
        ...seen,
        class: 'orphan',
        severity: 'info',
        what: `${of}Stray`,
        expected:
          of === 'image' ? 'no copy of it: the pool was never asked for one' : 'nothing: there is no such instance',
        actual: `the pool has ${of}-${id}. Nobody needs it; remove it with the tools of the pool`,
      };
    if (!found && of === 'image' && state === 'ready')
      return { ...seen, class: 'missing', what: 'image', expected: 'a copy of the image', actual: 'there is none' };
    return null;
  }
  if (found && state === null)
    // In the trash is where a person has put it.
    return trashed
      ? null
      : {
          ...seen,
          class: 'orphan',
          what: 'volumeStray',
          expected: 'no disk: there is no such volume',
          actual:
            'the pool has a disk of it. The repair puts it into the trash of the pool, from where it can be taken back',
          repair: { action: 'storagePool.trashStray', targetId: poolId, input: { volumeId: id } },
        };
  if (found && row.poolId !== poolId)
    return {
      ...seen,
      class: 'misplaced',
      severity: 'error',
      what: 'volumeElsewhere',
      expected: `its disk is in pool ${row.poolId}`,
      actual: 'this pool has a disk of it, too',
    };
  if (row.poolId !== poolId) return null;
  if (!found && (state === 'ready' || state === 'destroyed'))
    return {
      ...seen,
      class: 'missing',
      severity: state === 'ready' ? 'critical' : 'warning',
      what: 'volume',
      expected: state === 'ready' ? 'its disk is in this pool' : 'its disk is in the trash of this pool',
      actual: 'it is not. What was on it is lost, unless somebody has moved it; a snapshot or a backup may have it',
    };
  if (found && trashed !== (state === 'destroyed') && (state === 'ready' || state === 'destroyed'))
    return {
      ...seen,
      class: 'drifted',
      severity: state === 'ready' ? 'critical' : 'info',
      what: 'volumeTrashed',
      expected: state === 'ready' ? 'its disk is no trash' : 'its disk is in the trash',
      actual: state === 'ready' ? 'its disk is in the trash of the pool' : 'its disk is not in the trash of the pool',
    };
  return null;
}

/** From how full a pool is on, a person should know of it. */
const nearlyFull = 0.8;
const full = 0.9;

/** Asks a host that reaches the pool, and the database once. @throws HOST_UNREACHABLE */
export async function scanPool(world: World, poolId: string, hostId: string): Promise<number> {
  const client = world.database.connections;
  const [begun] = await clock(client);
  const record = await poolOf(world, poolId);
  const driver = driverOf(record);
  const look = async () => driver.inventory(world, await poolAgent(world, hostId, record), record);
  const { objects, usedBytes, totalBytes } = await telling(record, look()).catch((error: unknown) => {
    world.log.warn({ storagePoolId: poolId, hostId, error: String(error) }, 'a storage pool could not be looked at');
    throw error;
  });
  const disks = objects
    .filter(({ id }) => isUuid(id))
    .map(({ operation, ...object }) => ({ ...object, operation: isUuid(operation ?? '') ? operation : null }));
  const rows = await disksBesideRecords(client, { poolId, disks: JSON.stringify(disks) });
  const busy = rows.filter((row) => row.busy).map(({ id }) => id);
  const system = record.type === 'rbd' ? 'rbd' : 'host';
  const sightings = rows.flatMap((row) => (row.busy ? [] : (sightingOf(row, poolId, system) ?? [])));
  const used = totalBytes > 0 ? usedBytes / totalBytes : 0;
  if (used >= nearlyFull)
    sightings.push({
      class: 'risk',
      severity: used >= full ? 'critical' : 'warning',
      what: 'poolNearlyFull',
      resourceKind: 'storagePool',
      resourceId: poolId,
      system,
      location: poolId,
      expected: `less than ${nearlyFull * 100} % of it is used`,
      actual: `${Math.floor(used * 100)} % of it is used. Guests stop when nothing is left: add room, or move volumes`,
    });
  const since = begun?.at ?? new Date();
  await seeAll(client, { system, location: poolId, what: [...whats, 'poolNearlyFull'], since }, sightings, busy);
  return sightings.length;
}
