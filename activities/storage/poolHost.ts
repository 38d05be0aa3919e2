/** Work on a pool, and on a storage cluster, is the same from every host that reaches it: one that is gone is not waited for. */
import type { Queryable } from '../../database/database.ts';
import { hostOfZone, hostReaching } from '../../database/placement.ts';
import { from, statement, type Values } from '../../database/statement.ts';
import type { HostInStep } from '../../host-agent/connection.ts';
import type { CallName } from '../../host-agent/protocol.ts';
import { refuse, tryAgain } from '../failure.ts';
import { isDead, isUnreachable } from '../silence.ts';
import type { World } from '../world.ts';

const deadHome = statement((p: Values<{ poolId: string }>) =>
  from
    .selectFrom('storagePool as p')
    .innerJoin('host as h', 'h.id', 'p.hostId')
    .select('h.id')
    .where('p.id', '=', p.poolId)
    .where('h.deadAt', 'is not', null)
    .where('h.state', 'not in', ['fencing', 'fenced', 'reinstating']),
);

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
export async function poolAgent(
  world: World,
  hostId: string,
  pool: { id: string; hostId: string | null },
): Promise<HostInStep> {
  if (pool.hostId !== null && (await isDead(world, pool.hostId))) return lost(pool.id);
  return firstThatAnswers(
    world,
    hostId,
    (tried) => hostReaching(world.database.connections, pool.id, tried),
    `storage pool ${pool.id}`,
    pool.hostId ?? hostId,
  );
}

const removals = new Set<string>([
  'files.ensureTrashed',
  'files.ensureExpunged',
  'files.ensureAbsent',
  'files.ensureSnapshotAbsent',
  'files.ensurePoolAbsent',
] satisfies CallName[]);

/** Of a pool on the disks of a dead host: what should go is gone, and nothing else can be done. */
function lost(poolId: string): HostInStep {
  const refuseLost = (): never => {
    throw refuse(
      'HOST_UNREACHABLE',
      `storage pool ${poolId} was on the disks of a host that is dead: what lay there is lost`,
    );
  };
  const call = async (name: string): Promise<unknown> => {
    if (name === 'files.inventory') return { files: [] };
    return removals.has(name) ? {} : refuseLost();
  };
  return { call: call as HostInStep['call'], runTask: async () => refuseLost() };
}

/** The same for the administration of a storage cluster, which any host of its zone can do. */
export const zoneAgent = (world: World, hostId: string, zoneId: string | null): Promise<HostInStep> =>
  firstThatAnswers(
    world,
    hostId,
    (tried) => hostOfZone(world.database.connections, zoneId, tried),
    'the storage clusters of the zone',
  );

/** The same by another host than the one that it is about, while there is another: that one may be about to fail. */
export const zoneAgentBeside = async (world: World, hostId: string, zoneId: string | null): Promise<HostInStep> =>
  firstThatAnswers(
    world,
    hostId,
    (tried) => hostOfZone(world.database.connections, zoneId, tried),
    'the storage clusters of the zone',
    (await hostOfZone(world.database.connections, zoneId, [hostId])) ?? hostId,
  );

/** A host that reaches the pool, or did before it died; any will do for work on the pool itself. */
export async function reachingHost(client: Queryable, poolId: string): Promise<string> {
  const hostId = (await hostReaching(client, poolId)) ?? (await deadHome(client, { poolId }))[0]?.id;
  if (!hostId) throw refuse('HOST_UNREACHABLE', `no connected host reaches storage pool ${poolId}`);
  return hostId;
}
