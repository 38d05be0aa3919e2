/** Wires: which of their segments are free, and which clusters are at them. */
import type { Segments } from '../model/network/physicalNetwork.ts';
import type { Transaction } from './database.ts';
import { from, isAmong, statement, type Values, written } from './statement.ts';

/** The first tag of a wire's ranges that no network has. The wire is locked, so that two who ask at the same moment get two. */
const firstFree = written<{ segment: number }, { physicalNetworkId: string; ranges: string }>(
  `SELECT s.n AS segment FROM jsonb_to_recordset($ranges::jsonb) AS r("from" int, "to" int), LATERAL generate_series(r."from", r."to") AS s(n)
   WHERE NOT EXISTS (SELECT 1 FROM "network" k WHERE k."physicalNetworkId" = $physicalNetworkId AND k."segmentId" = s.n AND k."deletedAt" IS NULL)
   ORDER BY s.n LIMIT 1`,
);

const oneAfterTheOther = statement((p: Values<{ id: string }>) =>
  from.selectFrom('physicalNetwork').select('segmentRanges').where('id', '=', p.id).forNoKeyUpdate(),
);

/** Null where all are in use. Networks with a tag of a wire are accepted one after the other. */
export async function freeSegment(tx: Transaction, physicalNetworkId: string): Promise<number | null> {
  const [wire] = await oneAfterTheOther(tx, { id: physicalNetworkId });
  const ranges = JSON.stringify((wire?.segmentRanges ?? []) as Segments[]);
  const [free] = await firstFree(tx, { physicalNetworkId, ranges });
  return free?.segment ?? null;
}

/** Locked in share: no cluster leaves a wire while something is placed on its hosts. */
const wires = statement((p: Values<{ ids: string[] }>) =>
  from
    .selectFrom('physicalNetwork')
    .select('clusterIds')
    .where((eb) => isAmong(eb.ref('id'), p.ids))
    .orderBy('id')
    .forShare(),
);

/** Of these clusters, those that are at all of these wires. */
export async function clustersAt(
  tx: Transaction,
  physicalNetworkIds: string[],
  clusterIds: string[],
): Promise<string[]> {
  const all = await wires(tx, { ids: physicalNetworkIds });
  return clusterIds.filter((id) => all.every((wire) => wire.clusterIds.includes(id)));
}

/** The wire that an interface is on, and the cluster where an instance runs; none of a network without a wire, or of an instance that is off. */
const wireOfInterface = written<
  { physicalNetworkId: string; clusterId: string },
  { networkInterfaceId: string; instanceId: string }
>(
  `SELECT s."physicalNetworkId", h."clusterId" FROM "networkInterface" n JOIN "subnet" s ON s.id = n."subnetId", "instance" i JOIN "host" h ON h.id = i."hostId"
   WHERE n.id = $networkInterfaceId AND i.id = $instanceId AND s."physicalNetworkId" IS NOT NULL`,
);

/** Whether the host of a running instance is at the wire that an interface needs. */
export async function isAtWire(
  tx: Transaction,
  of: { networkInterfaceId: string; instanceId: string },
): Promise<boolean> {
  const [needed] = await wireOfInterface(tx, of);
  return !needed || (await clustersAt(tx, [needed.physicalNetworkId], [needed.clusterId])).length > 0;
}

/** What is on a network of the wire, on a host of the cluster. */
export const userOfWire = written<{ kind: string; id: string }, { physicalNetworkId: string; clusterId: string }>(
  `SELECT 'instance' AS kind, i.id FROM "network" k JOIN "networkInterface" n ON n."networkId" = k.id JOIN "instance" i ON i.id = n."instanceId"
     JOIN "host" h ON h.id = i."hostId" OR h.id IN (SELECT c."hostId" FROM "hostClaim" c WHERE c."instanceId" = i.id)
   WHERE k."physicalNetworkId" = $physicalNetworkId AND k."deletedAt" IS NULL AND n."deletedAt" IS NULL AND i."deletedAt" IS NULL
     AND h."clusterId" = $clusterId LIMIT 1`,
);

/** The wires that a host of the cluster is led to. One that is being told of finds those hosts itself that are connected then. */
export const wiresOfCluster = written<{ id: string; bridge: string }, { clusterId: string }>(
  `SELECT id, bridge FROM "physicalNetwork" WHERE "clusterIds" @> ARRAY[$clusterId]::uuid[] AND bridge IS NOT NULL
     AND state IN ('creating', 'ready', 'updating') AND "deletedAt" IS NULL ORDER BY id`,
);
