/** Work on a pool, and on a storage cluster, is the same from every host that reaches it: one that is gone is not waited for. */
import type { Queryable } from '../../database/database.ts';
import { hostOfZone, hostReaching } from '../../database/placement.ts';
import type { HostInStep } from '../../host-agent/connection.ts';
import { refuse, tryAgain } from '../failure.ts';
import { isUnreachable } from '../silence.ts';
import type { World } from '../world.ts';

async function firstThatAnswers(
  world: World,
  hostId: string,
  another: (tried: string[]) => Promise<string | null>,
  what: string,
  first: string = hostId,
): Promise<HostInStep> {
  const tried: string[] = [];
  for (let next = first; ; ) {
    try {
      return await world.anyHost(next, hostId);
    } catch (error) {
      if (!isUnreachable(error)) throw error;
      tried.push(next);
      const other = await another(tried);
      if (!other) throw tryAgain('HOST_UNREACHABLE', `no host that reaches ${what} answers`);
      next = other;
    }
  }
}

/**
 * The host at hand while it answers, else any other that reaches the pool; of one on the disks of a single host, that one. Asked anew at each
 * attempt of a step, and by its undo.
 */
export const poolAgent = (
  world: World,
  hostId: string,
  pool: { id: string; hostId: string | null },
): Promise<HostInStep> =>
  firstThatAnswers(
    world,
    hostId,
    (tried) => hostReaching(world.database.pool, pool.id, tried),
    `storage pool ${pool.id}`,
    pool.hostId ?? hostId,
  );

/** The same for the administration of a storage cluster, which any host of its zone can do. */
export const zoneAgent = (world: World, hostId: string, zoneId: string | null): Promise<HostInStep> =>
  firstThatAnswers(
    world,
    hostId,
    (tried) => hostOfZone(world.database.pool, zoneId, tried),
    'the storage clusters of the zone',
  );

/** A host that reaches the pool; any will do for work on the pool itself. */
export async function reachingHost(client: Queryable, poolId: string): Promise<string> {
  const hostId = await hostReaching(client, poolId);
  if (!hostId) throw refuse('HOST_UNREACHABLE', `no connected host reaches storage pool ${poolId}`);
  return hostId;
}
