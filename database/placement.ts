/**
 * Which host and which pools have room, as one question: the API asks it when a change is accepted, and placement again, under the
 * lock of the host's capacity, when the operation's turn has come. Nothing here writes.
 */

import { sql } from 'kysely';
import { servingStates } from '../model/platform/host.ts';
import { poolTypesWithout } from '../model/storage/poolTypes.ts';
import { Problem } from '../runtime/problem.ts';
import { type Database, type Queryable, type Transaction, transaction } from './database.ts';
import { illHosts } from './detection.ts';
import { from, isAmong, literals, statement, type ValueOf, type Values, written } from './statement.ts';
import { clustersAt } from './wires.ts';

export interface Need {
  zoneId: string;
  vcpus: number;
  memoryMib: number;
  /** Of the guest; null when it is not known. */
  architecture?: ValueOf<'cluster', 'architecture'> | null;
  /** Wires that its host has to be at. */
  physicalNetworkIds?: string[];
}

export interface Pool {
  id: string;
  storageClass: string;
  clusterIds: string[];
  /** The only host that reaches it; null where all of the clusters do. */
  hostId: string | null;
  freeGib: number;
  /** Whether new volumes may go there. What lies in it already stays in use, as in one that is full. */
  open: boolean;
  /** What the copy of an image takes there before something can be cloned from it, by image; nothing where others use it already. */
  copyGib: Record<string, number>;
}

export interface VolumeNeed {
  id: string;
  sizeGib: number;
  /** Where it lies already; null lets placement choose. */
  poolId: string | null;
  storageClass: string;
  /** The only pool that it can be made in; of one from a snapshot that can not be cloned into another. */
  onlyPoolId?: string | null;
  /** What it is cloned from, when that is an image: a pool needs room for a copy of that too. */
  imageId?: string | null;
}

/** Hosts that come into question at all: those of the clusters, and these besides; only that one, all but that one. */
export interface Eligible {
  clusterIds: string[];
  hostIds: string[];
  only: string | null;
  except: string | null;
  /** These only where no other has room, the first of them last of all. */
  avoid?: string[];
  /** Also what hosts keep free for instances of hosts that fail. */
  fromReserve?: boolean;
}

/** The pool that a volume `v` has to be made in, because its snapshot can not be cloned into another. */
export const onlyPoolOfVolume = `(SELECT o.id FROM "snapshot" s JOIN "storagePool" o ON o.id = s."poolId" WHERE s.id = (v.source->>'snapshotId')::uuid AND o.type IN (${literals(poolTypesWithout('cloneAcross'))}))`;

/** Whether volumes live on a pool's copy `c` of an image. */
export const copyIsUsed = `EXISTS (SELECT 1 FROM "volume" v WHERE v.source->>'imageId' = c."imageId"::text AND v."poolId" = c."poolId" AND v."deletedAt" IS NULL)`;

/** GiB that a pool `p` has promised, but for the volume whose id the parameter is. The database counts the same where it decides. */
export const promisedGib = (exceptVolume = `NULL::uuid`): string => `belay_promised_gib(p.id, ${exceptVolume})`;

const takeBack = written<never>(`SELECT set_config('belay.takes_back', 'on', true)`);

/** What an undo gives back to its owner is not asked for anew, though others may have been given the room meanwhile: the pool is overfull then. */
export const takingBack = <T>(database: Database, body: (tx: Transaction) => Promise<T>): Promise<T> =>
  transaction(database, async (tx) => {
    await takeBack(tx);
    return body(tx);
  });

/** GiB that a pool `p` may promise. */
export const promisableGib = `(p."totalGib" * p.overprovision)`;

const poolsWith = written<Pool, { zoneId: string; imageIds: string[] }>(
  `SELECT p.id, p."storageClass", p."clusterIds", p."hostId", (${promisableGib} - ${promisedGib()})::float8 AS "freeGib",
          belay_pool_is_open(p.id) AND EXISTS (SELECT 1 FROM "hostCapacity" c WHERE c."zoneId" = p."zoneId" AND c.open AND c."clusterId" = ANY(p."clusterIds") AND c."hostId" = coalesce(p."hostId", c."hostId")) AS open,
          (SELECT coalesce(json_object_agg(i.id, CASE WHEN EXISTS (
             SELECT 1 FROM "imageCache" c WHERE c."imageId" = i.id AND c."poolId" = p.id AND (c.state = 'caching' OR (c.state = 'ready' AND ${copyIsUsed}))
           ) THEN 0 ELSE coalesce(i."minSizeGib", 0) END), '{}') FROM "image" i WHERE i.id = ANY($imageIds::uuid[])) AS "copyGib"
   FROM "storagePool" p WHERE p."zoneId" = $zoneId AND p.state = 'ready' AND p."deletedAt" IS NULL ORDER BY p.id`,
);

/**
 * The pools of a zone, with the free GiB of each: what it may promise less what it has promised; and with what copies of these images
 * would take besides. One is open that is enabled as its storage cluster is, and that a host reaches which is open itself.
 */
export const poolsOf = (tx: Transaction, zoneId: string, imageIds: string[] = []): Promise<Pool[]> =>
  poolsWith(tx, { zoneId, imageIds });

/** GiB that a pool may still promise, as if that volume were not there; none while it is closed. */
export const roomIn = written<{ free: number }, { poolId: string | null; exceptVolumeId: string }>(
  `SELECT CASE WHEN belay_pool_is_open(p.id) THEN (${promisableGib} - ${promisedGib('$exceptVolumeId')})::float8 ELSE 0 END AS free
   FROM "storagePool" p WHERE p.id = $poolId`,
);

/** The images that volumes are cloned from. */
export const imagesOf = (volumes: VolumeNeed[]): string[] => [
  ...new Set(volumes.flatMap(({ imageId }) => imageId ?? [])),
];

/** Any host of a cluster, or a certain one. */
export interface Spot {
  clusterId: string;
  hostId: string | null;
}

/**
 * The pool of each volume, by its id: where it lies, or else the emptiest of its class that is open and has room; of those that are reached from
 * there. Who has no choice goes first, then the largest; what one takes is not there for the next. Without a place what is reached from everywhere
 * comes before the disks of a host. Null when one finds none.
 */
export function choosePools(pools: Pool[], volumes: VolumeNeed[], spot: Spot | null): Map<string, string> | null {
  const left = pools
    .filter((pool) => !spot || (pool.clusterIds.includes(spot.clusterId) && [null, spot.hostId].includes(pool.hostId)))
    .map((pool) => ({ ...pool, copyGib: { ...pool.copyGib } }));
  const chosen = new Map<string, string>();
  for (const { id, poolId, onlyPoolId, sizeGib, storageClass, imageId } of volumes.toSorted(
    (a, b) => Number(Boolean(b.onlyPoolId)) - Number(Boolean(a.onlyPoolId)) || b.sizeGib - a.sizeGib,
  )) {
    const roomIn = (pool: Pool): number => sizeGib + (imageId ? (pool.copyGib[imageId] ?? 0) : 0);
    const pool = poolId
      ? left.find((one) => one.id === poolId)
      : left
          .filter((one) => one.storageClass === storageClass && one.open && one.freeGib >= roomIn(one))
          .filter((one) => !onlyPoolId || one.id === onlyPoolId)
          .sort(
            (a, b) => (spot ? 0 : Number(a.hostId !== null) - Number(b.hostId !== null)) || b.freeGib - a.freeGib,
          )[0];
    if (!pool) return null;
    chosen.set(id, pool.id);
    if (poolId) continue;
    pool.freeGib -= roomIn(pool);
    if (imageId) pool.copyGib[imageId] = 0;
  }
  return chosen;
}

/** Clusters of which every host reaches a pool for each of the volumes, and single hosts that do by what is theirs alone. */
export interface Reach {
  clusterIds: string[];
  hosts: { hostId: string; clusterId: string }[];
}

/** From where pools with room for all volumes together are reached. @throws Problem NO_CAPACITY where there is no such place */
export function reachOf(pools: Pool[], volumes: VolumeNeed[]): Reach {
  const shared = pools.filter(({ hostId }) => hostId === null);
  const clusters = [...new Set(shared.flatMap((pool) => pool.clusterIds))];
  const clusterIds = clusters.filter((clusterId) => choosePools(shared, volumes, { clusterId, hostId: null }));
  const ofOne = new Map<string, Pool[]>();
  for (const pool of pools) if (pool.hostId !== null) ofOne.set(pool.hostId, [...(ofOne.get(pool.hostId) ?? []), pool]);
  const hosts = [...ofOne].flatMap(([hostId, own]) => {
    const clusterId = own[0]?.clusterIds[0] ?? '';
    if (clusterIds.includes(clusterId)) return [];
    return choosePools([...shared, ...own], volumes, { clusterId, hostId }) ? [{ hostId, clusterId }] : [];
  });
  if (volumes.length > 0 && clusterIds.length + hosts.length === 0) {
    const alone = volumes.find((volume) => !choosePools(pools, [volume], null));
    const missing = alone ?? volumes[0];
    const open = pools.filter((pool) => pool.open);
    const ofClass = open.filter((pool) => pool.storageClass === missing?.storageClass);
    throw new Problem(
      'NO_CAPACITY',
      alone || volumes.length === 1
        ? `no pool of storage class ${missing?.storageClass} in the zone has ${missing?.sizeGib} GiB free` +
            `${missing?.imageId ? ', and room for a copy of the image besides' : ''}: ${open.length} pools are open to new volumes, ` +
            `${ofClass.length} of that class`
        : `no host of the zone reaches pools that have room for these ${volumes.length} volumes together: ${open.length} pools are open to new volumes`,
      {
        storageClass: missing?.storageClass,
        sizeGib: missing?.sizeGib,
        pools: ofClass.map(({ id, freeGib }) => ({ id, freeGib: Math.max(0, Math.floor(freeGib)) })),
      },
    );
  }
  return { clusterIds, hosts };
}

const fittingClusters = statement(
  (p: Values<{ clusterIds: string[]; architecture: ValueOf<'cluster', 'architecture'> }>) =>
    from
      .selectFrom('cluster')
      .select('id')
      .where((eb) => isAmong(eb.ref('id'), p.clusterIds))
      .where('architecture', '=', p.architecture)
      .orderBy('id'),
);

/** Those of the hosts that are at all wires that the guest is on. @throws Problem NO_CAPACITY where there is none */
async function wiredHosts(tx: Transaction, { zoneId, physicalNetworkIds = [] }: Need, reach: Reach): Promise<Reach> {
  if (physicalNetworkIds.length === 0) return reach;
  const reached = [...new Set([...reach.clusterIds, ...reach.hosts.map(({ clusterId }) => clusterId)])];
  const wired = new Set(await clustersAt(tx, physicalNetworkIds, reached));
  if (wired.size === 0)
    throw new Problem(
      'NO_CAPACITY',
      `no host of zone ${zoneId} that reaches the storage is at the wires of its networks`,
    );
  return {
    clusterIds: reach.clusterIds.filter((id) => wired.has(id)),
    hosts: reach.hosts.filter(({ clusterId }) => wired.has(clusterId)),
  };
}

/** Those of the hosts that are at the guest's wires, and whose processors run it. @throws Problem NO_CAPACITY where there is none */
export async function runningHosts(
  tx: Transaction,
  need: Need,
  reach: Reach,
): Promise<Pick<Eligible, 'clusterIds' | 'hostIds'>> {
  const { zoneId, architecture } = need;
  const { clusterIds, hosts } = await wiredHosts(tx, need, reach);
  if (!architecture) return { clusterIds, hostIds: hosts.map(({ hostId }) => hostId) };
  const reached = [...new Set([...clusterIds, ...hosts.map(({ clusterId }) => clusterId)])];
  const fitting = new Set((await fittingClusters(tx, { clusterIds: reached, architecture })).map(({ id }) => id));
  if (fitting.size === 0)
    throw new Problem(
      'NO_CAPACITY',
      `no host of zone ${zoneId} that reaches the storage runs guests made for ${architecture}`,
      { architecture },
    );
  return {
    clusterIds: clusterIds.filter((id) => fitting.has(id)),
    hostIds: hosts.flatMap(({ hostId, clusterId }) => (fitting.has(clusterId) ? [hostId] : [])),
  };
}

/** What a host has to be, and to have room for. */
export interface HostQuestion {
  zoneId: string;
  vcpus: number;
  memoryMib: number;
  clusterIds: string[];
  hostIds: string[];
  only: string | null;
  except: string | null;
  avoid: string[];
  fromReserve: boolean;
}

export const hostQuestion = ({ zoneId, vcpus, memoryMib }: Need, eligible: Eligible): HostQuestion => ({
  zoneId,
  vcpus,
  memoryMib,
  ...eligible,
  avoid: eligible.avoid ?? [],
  fromReserve: eligible.fromReserve ?? false,
});

const freeVcpus = `vcpus - "claimedVcpus" - CASE WHEN $fromReserve::boolean THEN 0 ELSE "reservedVcpus" END`;
const freeMemoryMib = `"memoryMib" - "claimedMemoryMib" - CASE WHEN $fromReserve::boolean THEN 0 ELSE "reservedMemoryMib" END`;

/** Asked once for all hosts: hardly ever is any of them ill, and then none is looked up. */
const someIll = `(SELECT EXISTS (${illHosts}))`;
const isIll = `(${someIll} AND "hostId" IN (${illHosts}))`;
/** The greater, the later its turn: nothing of most, and what is avoided still goes before what is ill. */
const demotion = `CASE WHEN ${someIll} OR (SELECT cardinality($avoid::uuid[]) > 0)
  THEN CASE WHEN ${isIll} THEN 1000000 ELSE 0 END + coalesce(100000 - array_position($avoid::uuid[], "hostId"), 0) ELSE 0 END`;

/**
 * The host with the most free memory that has room; one that is ill, or to be avoided, comes last, or with `best` not at all. Values are those of a
 * `HostQuestion`, `lock` is how its row is locked.
 */
export const hostWithRoom = (lock: string, best = false): string => `
  SELECT "hostId" FROM "hostCapacity"
  WHERE "zoneId" = $zoneId AND open AND ${freeVcpus} >= $vcpus AND ${freeMemoryMib} >= $memoryMib
    AND ("clusterId" = ANY($clusterIds) OR "hostId" = ANY($hostIds)) AND ($only::uuid IS NULL OR "hostId" = $only) AND ($except::uuid IS NULL OR "hostId" <> $except)${best ? ` AND NOT ${isIll} AND "hostId" <> ALL($avoid::uuid[])` : ''}
  ORDER BY ${best ? '' : `${demotion}, `}"memoryMib" - "claimedMemoryMib" DESC, "hostId" LIMIT 1 ${lock}`;

export type Counted = Record<'hosts' | 'closed' | 'unreached' | 'excluded' | 'vcpus' | 'memory', string>;

/** By filter, how many hosts it drops. */
export const lackingText = `SELECT count(*) AS hosts, count(*) FILTER (WHERE NOT open) AS closed, count(*) FILTER (WHERE NOT ("clusterId" = ANY($clusterIds) OR "hostId" = ANY($hostIds))) AS unreached,
          count(*) FILTER (WHERE ($only::uuid IS NOT NULL AND "hostId" <> $only) OR "hostId" = $except::uuid) AS excluded,
          count(*) FILTER (WHERE ${freeVcpus} < $vcpus) AS vcpus, count(*) FILTER (WHERE ${freeMemoryMib} < $memoryMib) AS memory
   FROM "hostCapacity" WHERE "zoneId" = $zoneId`;

const lacking = written<Counted, HostQuestion>(lackingText);

/** Says per filter how many hosts it dropped, so that the reader knows what to add. @throws Problem NO_CAPACITY */
export async function noCapacity(tx: Transaction, need: Need, eligible: Eligible): Promise<never> {
  const [count] = await lacking(tx, hostQuestion(need, eligible));
  throw shortOfRoom(need, count);
}

export function shortOfRoom(need: Pick<Need, 'vcpus' | 'memoryMib'>, count: Counted | undefined): Problem {
  const of = (key: keyof Counted): number => Number(count?.[key] ?? 0);
  return new Problem(
    'NO_CAPACITY',
    `no host of the zone has room for ${need.vcpus} vCPUs and ${need.memoryMib} MiB: of ${of('hosts')} hosts ${of('closed')} are closed to placement, ` +
      `${of('unreached')} do not reach the storage, ${of('excluded')} are not eligible, ${of('vcpus')} lack vCPUs, ${of('memory')} lack memory`,
    {
      hosts: of('hosts'),
      droppedBy: {
        closed: of('closed'),
        storageReach: of('unreached'),
        eligibility: of('excluded'),
        vcpus: of('vcpus'),
        memoryMib: of('memory'),
      },
    },
  );
}

const serving = `h.state IN (${literals(servingStates)})`;

/** A host that can be given work: it answers, or did so until a moment ago. Those that do at this moment, and are open, come first. */
const atWork = `h.connection <> 'disconnected' AND ${serving} AND h."deletedAt" IS NULL`;
const inOrder = `ORDER BY h.connection = 'connected' DESC, coalesce(c.open, false) DESC, random() LIMIT 1`;

const reaching = written<{ id: string }, { poolId: string; except: string[] }>(
  `SELECT h.id FROM "storagePool" p JOIN "host" h ON h."clusterId" = ANY(p."clusterIds") AND h.id = coalesce(p."hostId", h.id) LEFT JOIN "hostCapacity" c ON c."hostId" = h.id
   WHERE p.id = $poolId AND ${atWork} AND h.id <> ALL($except::uuid[]) ${inOrder}`,
);

const ofZone = written<{ id: string }, { zoneId: string | null; except: string[] }>(
  `SELECT h.id FROM "host" h LEFT JOIN "hostCapacity" c ON c."hostId" = h.id WHERE h."zoneId" = $zoneId AND ${atWork} AND h.id <> ALL($except::uuid[]) ${inOrder}`,
);

/** Any host that reaches the pool and is none of those; null when none answers. */
export async function hostReaching(client: Queryable, poolId: string, except: string[] = []): Promise<string | null> {
  const [host] = await reaching(client, { poolId, except });
  return host?.id ?? null;
}

/** Any host of the zone that is none of those; null when none answers. */
export async function hostOfZone(
  client: Queryable,
  zoneId: string | null,
  except: string[] = [],
): Promise<string | null> {
  const [host] = await ofZone(client, { zoneId, except });
  return host?.id ?? null;
}

/**
 * Of a host `h`: nobody waits for its answer. It has not answered for a few seconds, is dead, or has failed, whether it answers again or not. One
 * that is being added, connected or deleted may be about to answer, and nobody watches it.
 */
export const isSilent = sql<boolean>`(h.state <> 'reinstating' AND (h."deadAt" IS NOT NULL OR h."fencedAt" IS NOT NULL OR h.state = 'fencing'
  OR (h.connection = 'disconnected' AND ${sql.raw(serving)})))`;

/** Where something would go if its turn were now. */
export interface Placement {
  hostId: string | null;
  pools: { volumeId: string; poolId: string }[];
}

const withRoom = written<{ hostId: string; clusterId: string }, HostQuestion>(
  `SELECT "hostId", "clusterId" FROM "hostCapacity" WHERE "hostId" = (${hostWithRoom('')})`,
);

/** A host that has room among those that are eligible. @throws Problem NO_CAPACITY */
export async function findHost(
  tx: Transaction,
  need: Need,
  eligible: Eligible,
): Promise<{ hostId: string; clusterId: string }> {
  const [host] = await withRoom(tx, hostQuestion(need, eligible));
  return host ?? noCapacity(tx, need, eligible);
}

/** A host and a pool for each volume, claiming nothing. @throws Problem NO_CAPACITY */
export async function findPlace(
  tx: Transaction,
  need: Need,
  volumes: VolumeNeed[],
  requestedHostId: string | null,
): Promise<Placement> {
  const pools = await poolsOf(tx, need.zoneId, imagesOf(volumes));
  const eligible = await runningHosts(tx, need, reachOf(pools, volumes));
  const spot = await findHost(tx, need, { ...eligible, only: requestedHostId, except: null });
  return { hostId: spot.hostId, pools: inPools(pools, volumes, spot) };
}

/** A pool for a volume that stands alone. @throws Problem NO_CAPACITY */
export async function findSpace(tx: Transaction, zoneId: string, volume: VolumeNeed): Promise<Placement> {
  const pools = await poolsOf(tx, zoneId, imagesOf([volume]));
  reachOf(pools, [volume]);
  return { hostId: null, pools: inPools(pools, [volume], null) };
}

const inPools = (pools: Pool[], volumes: VolumeNeed[], spot: Spot | null): Placement['pools'] =>
  [...(choosePools(pools, volumes, spot) ?? [])].map(([volumeId, poolId]) => ({ volumeId, poolId }));

/** Takes the room of a host for an instance. `lock` is how the host is locked; with `best` it is none that is ill or to be avoided. */
const claiming = (lock: string, best = false) =>
  written<{ hostId: string; clusterId: string }, HostQuestion & { instanceId: string; operationId: string }>(`
    WITH taken AS (
      UPDATE "hostCapacity" SET "claimedVcpus" = "claimedVcpus" + $vcpus, "claimedMemoryMib" = "claimedMemoryMib" + $memoryMib
      WHERE "hostId" = (${hostWithRoom(lock, best)}) RETURNING "hostId", "clusterId"),
    claim AS (
      INSERT INTO "hostClaim" ("instanceId", "hostId", "operationId", vcpus, "memoryMib")
      SELECT $instanceId::uuid, "hostId", $operationId::uuid, $vcpus, $memoryMib FROM taken)
    SELECT "hostId", "clusterId" FROM taken`);

/** Passes over those that somebody else holds at this moment: to wait for one is better than to take one that is ill. */
export const claimFreeHost = claiming('FOR UPDATE SKIP LOCKED', true);
export const claimHost = claiming('FOR UPDATE');
