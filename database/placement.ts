/**
 * Which host and which pools have room, as one question: the API asks it when a change is accepted, and placement again, under the
 * lock of the host's capacity, when the operation's turn has come. Nothing here writes.
 */
import { Problem } from '../runtime/problem.ts';
import { type Client, run } from './database.ts';

export interface Need {
  zoneId: string;
  vcpus: number;
  memoryMib: number;
}

export interface Pool {
  id: string;
  storageClass: string;
  clusterIds: string[];
  freeGib: number;
  /** Whether new volumes may go there. What lies in it already stays in use, as in one that is full. */
  open: boolean;
}

export interface VolumeNeed {
  id: string;
  sizeGib: number;
  /** Where it lies already; null lets placement choose. */
  poolId: string | null;
  storageClass: string;
}

/** Hosts that come into question at all: those of the clusters, only that one, all but that one. */
export interface Eligible {
  clusterIds: string[];
  only: string | null;
  except: string | null;
}

/**
 * The pools of a zone, with the free GiB of each: what it may promise less what living volumes were promised. One is open that is enabled,
 * and that a host reaches which is open itself.
 */
export const poolsOf = (tx: Client, zoneId: string): Promise<Pool[]> =>
  run<Pool>(
    tx,
    `SELECT p.id, p."storageClass", p."clusterIds",
            (p."totalGib" * p.overprovision - coalesce((SELECT sum(v."sizeGib") FROM "volume" v WHERE v."poolId" = p.id AND v."deletedAt" IS NULL), 0))::float8 AS "freeGib",
            p.enabled AND EXISTS (SELECT 1 FROM "hostCapacity" c WHERE c."zoneId" = p."zoneId" AND c.open AND c."clusterId" = ANY(p."clusterIds")) AS open
     FROM "storagePool" p WHERE p."zoneId" = $1 AND p.state = 'ready' AND p."deletedAt" IS NULL ORDER BY p.id`,
    [zoneId],
  );

/** Where the volume lies, or else the emptiest pool of its class that is open and has room; of those that the cluster reaches. */
export function choosePool(pools: Pool[], need: VolumeNeed, clusterId: string | null): Pool | undefined {
  return pools
    .filter((pool) =>
      need.poolId
        ? pool.id === need.poolId
        : pool.storageClass === need.storageClass && pool.open && pool.freeGib >= need.sizeGib,
    )
    .filter((pool) => clusterId === null || pool.clusterIds.includes(clusterId))
    .sort((a, b) => b.freeGib - a.freeGib)[0];
}

/** Clusters whose hosts reach a pool for every volume. @throws Problem NO_CAPACITY when there is none */
export function reachingClusters(pools: Pool[], volumes: VolumeNeed[]): string[] {
  const clusters = [...new Set(pools.flatMap((pool) => pool.clusterIds))];
  const reached = clusters.filter((cluster) => volumes.every((volume) => choosePool(pools, volume, cluster)));
  if (volumes.length > 0 && reached.length === 0) {
    const missing = volumes.find((volume) => !choosePool(pools, volume, null)) ?? volumes[0];
    const open = pools.filter((pool) => pool.open);
    const ofClass = open.filter((pool) => pool.storageClass === missing?.storageClass);
    throw new Problem(
      'NO_CAPACITY',
      `no pool of storage class ${missing?.storageClass} in the zone has ${missing?.sizeGib} GiB free: ${open.length} pools are open to new volumes, ` +
        `${ofClass.length} of that class`,
      {
        storageClass: missing?.storageClass,
        sizeGib: missing?.sizeGib,
        pools: ofClass.map(({ id, freeGib }) => ({ id, freeGib: Math.max(0, Math.floor(freeGib)) })),
      },
    );
  }
  return reached;
}

/** The host with the most free memory that has room. Parameters are those of `hostParameters`, `lock` is how its row is locked. */
export const hostWithRoom = (lock: string): string => `
  SELECT "hostId" FROM "hostCapacity"
  WHERE "zoneId" = $1 AND open AND vcpus - "claimedVcpus" >= $2 AND "memoryMib" - "claimedMemoryMib" >= $3
    AND "clusterId" = ANY($4) AND ($5::uuid IS NULL OR "hostId" = $5) AND ($6::uuid IS NULL OR "hostId" <> $6)
  ORDER BY "memoryMib" - "claimedMemoryMib" DESC, "hostId" LIMIT 1 ${lock}`;

export const hostParameters = (need: Need, { clusterIds, only, except }: Eligible): unknown[] => [
  need.zoneId,
  need.vcpus,
  need.memoryMib,
  clusterIds,
  only,
  except,
];

/** Says per filter how many hosts it dropped, so that the reader knows what to add. @throws Problem NO_CAPACITY */
export async function noCapacity(tx: Client, need: Need, eligible: Eligible): Promise<never> {
  const [count] = await run<Record<string, string>>(
    tx,
    `SELECT count(*) AS hosts, count(*) FILTER (WHERE NOT open) AS closed, count(*) FILTER (WHERE NOT ("clusterId" = ANY($4))) AS unreached,
            count(*) FILTER (WHERE ($5::uuid IS NOT NULL AND "hostId" <> $5) OR "hostId" = $6::uuid) AS excluded,
            count(*) FILTER (WHERE vcpus - "claimedVcpus" < $2) AS vcpus, count(*) FILTER (WHERE "memoryMib" - "claimedMemoryMib" < $3) AS memory
     FROM "hostCapacity" WHERE "zoneId" = $1`,
    hostParameters(need, eligible),
  );
  const of = (key: string): number => Number(count?.[key] ?? 0);
  throw new Problem(
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

/** A host that can be given work: it answers, or did so until a moment ago. Those that do at this moment, and are open, come first. */
const atWork = `h.connection <> 'disconnected' AND h.state IN ('active', 'maintenance') AND h."deletedAt" IS NULL`;
const inOrder = `ORDER BY h.connection = 'connected' DESC, coalesce(c.open, false) DESC, random() LIMIT 1`;

/** Any host that reaches the pool and is none of those; null when none answers. */
export async function hostReaching(
  client: { query: Client['query'] },
  poolId: string,
  except: string[] = [],
): Promise<string | null> {
  const [host] = await run<{ id: string }>(
    client as Client,
    `SELECT h.id FROM "storagePool" p JOIN "host" h ON h."clusterId" = ANY(p."clusterIds") LEFT JOIN "hostCapacity" c ON c."hostId" = h.id
     WHERE p.id = $1 AND ${atWork} AND h.id <> ALL($2::uuid[]) ${inOrder}`,
    [poolId, except],
  );
  return host?.id ?? null;
}

/** Any host of the zone that is none of those; null when none answers. */
export async function hostOfZone(
  client: { query: Client['query'] },
  zoneId: string | null,
  except: string[] = [],
): Promise<string | null> {
  const [host] = await run<{ id: string }>(
    client as Client,
    `SELECT h.id FROM "host" h LEFT JOIN "hostCapacity" c ON c."hostId" = h.id WHERE h."zoneId" = $1 AND ${atWork} AND h.id <> ALL($2::uuid[]) ${inOrder}`,
    [zoneId, except],
  );
  return host?.id ?? null;
}

/**
 * Of a host `h`: nobody waits for its answer. It has not answered for a few seconds, or is dead. One that is being added, connected or
 * deleted may be about to answer, and nobody watches it.
 */
export const silent = `(h."deadAt" IS NOT NULL OR (h.connection = 'disconnected' AND h.state IN ('active', 'maintenance')))`;

/** Where something would go if its turn were now. */
export interface Placement {
  hostId: string | null;
  pools: { volumeId: string; poolId: string }[];
}

/** A host that has room among those that are eligible. @throws Problem NO_CAPACITY */
export async function findHost(
  tx: Client,
  need: Need,
  eligible: Eligible,
): Promise<{ hostId: string; clusterId: string }> {
  const [host] = await run<{ hostId: string; clusterId: string }>(
    tx,
    `SELECT "hostId", "clusterId" FROM "hostCapacity" WHERE "hostId" = (${hostWithRoom('')})`,
    hostParameters(need, eligible),
  );
  return host ?? noCapacity(tx, need, eligible);
}

/** A host and a pool for each volume, claiming nothing. @throws Problem NO_CAPACITY */
export async function findPlace(
  tx: Client,
  need: Need,
  volumes: VolumeNeed[],
  requestedHostId: string | null,
): Promise<Placement> {
  const pools = await poolsOf(tx, need.zoneId);
  const clusterIds = reachingClusters(pools, volumes);
  const { hostId, clusterId } = await findHost(tx, need, { clusterIds, only: requestedHostId, except: null });
  return { hostId, pools: inPools(pools, volumes, clusterId) };
}

/** A pool for a volume that stands alone. @throws Problem NO_CAPACITY */
export async function findSpace(tx: Client, zoneId: string, volume: VolumeNeed): Promise<Placement> {
  const pools = await poolsOf(tx, zoneId);
  reachingClusters(pools, [volume]);
  return { hostId: null, pools: inPools(pools, [volume], null) };
}

const inPools = (pools: Pool[], volumes: VolumeNeed[], clusterId: string | null): Placement['pools'] =>
  volumes.flatMap((volume) => {
    const pool = choosePool(pools, volume, clusterId);
    return pool ? [{ volumeId: volume.id, poolId: pool.id }] : [];
  });
