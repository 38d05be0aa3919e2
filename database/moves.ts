/**
 * Moves that are only thought of: where running instances would go, each after those before it. It is placement's own question, of hosts as they
 * would be then; nothing is claimed, and nobody is kept waiting.
 */

import { type PoolType, poolTypesWithout } from '../model/storage/poolTypes.ts';
import type { Queryable } from './database.ts';
import { type Counted, type HostQuestion, hostQuestion, hostWithRoom, lackingText, shortOfRoom } from './placement.ts';
import { from, isAmong, statement, type Values, written } from './statement.ts';

type Imagined = {
  closed: readonly string[];
  movedHosts: string[];
  movedVcpus: number[];
  movedMemoryMib: number[];
};

/** In a statement that begins so, the hosts are as they would be. */
const imagined = `WITH "hostCapacity" AS (
  SELECT c."hostId", c."zoneId", c."clusterId", c.open AND c."hostId" <> ALL($closed::uuid[]) AS open, c.vcpus, c."memoryMib", c."reservedVcpus", c."reservedMemoryMib",
    c."claimedVcpus" + coalesce(m.vcpus, 0) AS "claimedVcpus", c."claimedMemoryMib" + coalesce(m.mib, 0) AS "claimedMemoryMib"
  FROM "hostCapacity" c LEFT JOIN (
    SELECT "hostId", sum(vcpus) AS vcpus, sum(mib) AS mib
    FROM unnest($movedHosts::uuid[], $movedVcpus::int[], $movedMemoryMib::int[]) AS moved("hostId", vcpus, mib) GROUP BY "hostId") m USING ("hostId"))`;

const roomThen = written<{ hostId: string; hostName: string; kvm: boolean | null }, HostQuestion & Imagined>(
  `${imagined} SELECT h.id AS "hostId", h.name AS "hostName", h.kvm FROM "host" h WHERE h.id = (${hostWithRoom('')})`,
);
const lackingThen = written<Counted, HostQuestion & Imagined>(`${imagined} ${lackingText}`);

/** Hosts of a cluster that are in use; placement may be closed to some of them for now. */
export const hostsInUse = statement((p: Values<{ clusterId: string }>) =>
  from
    .selectFrom('host as h')
    .select(['h.id', 'h.name'])
    .where('h.clusterId', '=', p.clusterId)
    .where('h.state', '=', 'active')
    .where('h.deletedAt', 'is', null)
    .orderBy('h.id'),
);

/** What has a place on hosts, the largest first. What has a volume in a pool that no other host reaches `stays`. */
const placedOn = statement((p: Values<{ hostIds: string[]; unmovable: PoolType[] }>) =>
  from
    .selectFrom('hostClaim as c')
    .innerJoin('instance as i', 'i.id', 'c.instanceId')
    .innerJoin('host as h', 'h.id', 'c.hostId')
    .select((eb) => [
      'i.id',
      'i.name',
      'i.zoneId',
      'i.state',
      'c.hostId',
      'c.vcpus',
      'c.memoryMib',
      'h.clusterId',
      'h.kvm',
      eb.or([eb('i.currentOperationId', 'is not', null), eb('i.fault', 'is not', null)]).as('busy'),
      eb
        .exists(
          eb
            .selectFrom('volume as v')
            .innerJoin('storagePool as s', 's.id', 'v.poolId')
            .select('v.id')
            .whereRef('v.instanceId', '=', 'i.id')
            .where('v.deletedAt', 'is', null)
            .where((of) => isAmong(of.ref('s.type'), p.unmovable)),
        )
        .as('stays'),
    ])
    .where((eb) => isAmong(eb.ref('c.hostId'), p.hostIds))
    .where((eb) => eb('i.hostId', '=', eb.ref('c.hostId')))
    .orderBy('c.memoryMib', 'desc')
    .orderBy('c.vcpus', 'desc')
    .orderBy('i.id')
    .$narrowType<{ busy: boolean; stays: boolean }>(),
);

export type Resident = Awaited<ReturnType<typeof placedOn>>[number];

export const residentsOf = (on: Queryable, hostIds: string[]): Promise<Resident[]> =>
  placedOn(on, { hostIds, unmovable: poolTypesWithout('liveMove') });

/** Where an instance would go, or what is missing for it to go anywhere. */
export interface Move {
  instanceId: string;
  instanceName: string;
  fromHostId: string;
  toHostId: string | null;
  missing: string | null;
}

/** Hosts as they would be after moves. Its residents are those of the hosts that it was made for, each where it would be by now. */
export interface Imagination {
  on: Queryable;
  residents: Resident[];
  /** By host, what would be there beside what is; less, where something would have left. */
  moved: Map<string, { vcpus: number; memoryMib: number }>;
}

export const imagine = async (on: Queryable, hostIds: string[]): Promise<Imagination> => ({
  on,
  residents: await residentsOf(on, hostIds),
  moved: new Map(),
});

function add({ moved }: Imagination, hostId: string, sign: 1 | -1, { vcpus, memoryMib }: Resident): void {
  const known = moved.get(hostId) ?? { vcpus: 0, memoryMib: 0 };
  moved.set(hostId, { vcpus: known.vcpus + sign * vcpus, memoryMib: known.memoryMib + sign * memoryMib });
}

/**
 * Moves one in thought, to where placement would move it then: to `only` that host, not to those that would be `closed`. Says what is missing where it can go
 * nowhere, and leaves it where it is.
 */
export async function moveInThought(
  thought: Imagination,
  resident: Resident,
  { closed = [], only = null }: { closed?: readonly string[]; only?: string | null } = {},
): Promise<Move> {
  const { id, name, hostId, clusterId, kvm } = resident;
  const move = { instanceId: id, instanceName: name, fromHostId: hostId };
  const stays = (missing: string): Move => ({ ...move, toHostId: null, missing });
  if (resident.stays) return stays('it has a volume in storage that is not there for a running guest on another host');
  if (resident.state !== 'running') return stays(`it is ${resident.state}`);
  const eligible = { clusterIds: [clusterId], hostIds: [], only, except: hostId };
  const all = [...thought.moved];
  const question = {
    ...hostQuestion(resident, eligible),
    closed,
    movedHosts: all.map(([host]) => host),
    movedVcpus: all.map(([, { vcpus }]) => vcpus),
    movedMemoryMib: all.map(([, { memoryMib }]) => memoryMib),
  };
  const [target] = await roomThen(thought.on, question);
  if (!target) return stays(shortOfRoom(resident, (await lackingThen(thought.on, question))[0]).message);
  if (target.kvm !== kvm)
    return stays(
      `host ${target.hostName} ${target.kvm ? 'runs guests with KVM' : 'emulates guests'}, its own does not`,
    );
  add(thought, hostId, -1, resident);
  add(thought, target.hostId, 1, resident);
  resident.hostId = target.hostId;
  return { ...move, toHostId: target.hostId, missing: null };
}

/** Empties hosts in thought that would be closed at the same time. */
export async function emptyInThought(thought: Imagination, hostIds: readonly string[]): Promise<Move[]> {
  const moves: Move[] = [];
  for (const resident of thought.residents.filter(({ hostId }) => hostId !== null && hostIds.includes(hostId)))
    moves.push(await moveInThought(thought, resident, { closed: hostIds }));
  return moves;
}
