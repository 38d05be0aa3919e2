/** The guests of a host beside the records. */
import { clock, type GuestRow, guestsBesideRecords } from '../../database/audit.ts';
import { type Sighting, seeAll } from '../../database/findings.ts';
import { isUuid } from '../../model/forms.ts';
import type { World } from '../world.ts';

const whats = ['guestStray', 'guestElsewhere', 'guestTwice', 'guest'];
const alive = (state: string | null): boolean => state === 'running' || state === 'paused';

/** What a row comes to; null of one that is as it should be. */
export function sightingOf(row: GuestRow, hostId: string): Sighting | null {
  const { id, found, state, elsewhere } = row;
  const isHome = row.hostId === hostId;
  const seen = { resourceKind: 'instance', resourceId: id, system: 'libvirt', location: hostId };
  const stray = (host: string): NonNullable<Sighting['repair']> => ({
    action: 'host.removeStray',
    targetId: host,
    input: { instanceId: id },
  });
  if (found !== null && state === null)
    return {
      ...seen,
      class: 'orphan',
      severity: alive(found) ? 'error' : 'warning',
      what: 'guestStray',
      expected: 'no guest: there is no such instance',
      actual: `the host has a guest of it, which is ${found}`,
      repair: stray(hostId),
    };
  if (found !== null && !isHome)
    return {
      ...seen,
      class: 'misplaced',
      severity: alive(found) ? 'critical' : 'warning',
      what: 'guestElsewhere',
      expected: row.hostId ? `its guest is on host ${row.hostId} alone` : `the instance is ${state}, and on no host`,
      actual: `host ${hostId} has a guest of it, which is ${found}. The repair ends that guest: look first which of them is the one in use`,
      repair: stray(hostId),
    };
  if (elsewhere !== null && alive(found))
    return {
      ...seen,
      class: 'duplicate',
      severity: 'critical',
      what: 'guestTwice',
      expected: 'one guest',
      actual: `one runs here, where it is at home, and another on host ${elsewhere}: both may write to its disks`,
      repair: stray(elsewhere),
    };
  if (state !== 'running' || alive(found)) return null;
  return {
    ...seen,
    class: found === null ? 'missing' : 'drifted',
    severity: 'error',
    what: 'guest',
    expected: 'its guest runs on this host',
    actual: found === null ? 'the host has no guest of it' : `its guest is ${found}`,
    repair: { action: 'instance.settle', input: {} },
  };
}

/** Asks the host once, and the database once. @throws HOST_UNREACHABLE */
export async function scanHost(world: World, hostId: string): Promise<number> {
  const { connections } = world.database;
  const [look] = await clock(connections);
  const { domains } = await (await world.host(hostId)).call('host.inventory', {});
  const guests = domains
    .filter(({ tags }) => tags?.kind === 'instance')
    // Anybody may have written a tag.
    .map(({ id, state, tags }) => ({ id, state, operation: isUuid(tags?.operation ?? '') ? tags?.operation : null }));
  const rows = await guestsBesideRecords(connections, { hostId, guests: JSON.stringify(guests) });
  const busy = rows.filter((row) => row.busy).map(({ id }) => id);
  const sightings = rows.flatMap((row) => (row.busy ? [] : (sightingOf(row, hostId) ?? [])));
  const since = look?.at ?? new Date();
  await seeAll(connections, { system: 'libvirt', location: hostId, what: whats, since }, sightings, busy);
  return sightings.length;
}
