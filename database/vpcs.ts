/** What the router of a VPC is told, and who may carry it. */
import type { Uplink } from '../model/network/vpc.ts';
import { servingStates } from '../model/platform/host.ts';
import { Problem } from '../runtime/problem.ts';
import { takeAddress } from './addresses.ts';
import type { Queryable, Transaction } from './database.ts';
import { literals, written } from './statement.ts';

export interface PublicAddress {
  subnetId: string;
  address: string;
  gateway: string;
  prefixLength: number;
}

interface PublicRange {
  id: string;
  gateway: string;
  prefixLength: number;
  holds: boolean;
}

/** The public ranges of a network, the oldest first, and whether an address is one that is given out of them. None goes while it is looked at. */
const publicRanges = written<PublicRange, { networkId: string; wanted: string | null }>(
  `SELECT s.id, host(s.gateway) AS gateway, masklen(s.cidr::inet) AS "prefixLength",
     EXISTS (SELECT 1 FROM "subnetCursor" c WHERE c."subnetId" = s.id AND $wanted::inet BETWEEN c.first AND c.last) AS holds
   FROM "subnet" s WHERE s."networkId" = $networkId AND s.external AND s.state = 'ready' AND s."deletedAt" IS NULL
   ORDER BY s."createdAt", s.id FOR SHARE`,
);

/** Who is about to take an address of the range is waited for, and nobody takes one before this transaction has ended. */
export const keepRange = written<never, { subnetId: string }>(
  `SELECT id FROM "subnet" WHERE id = $subnetId FOR UPDATE`,
);

/** A VPC that has an address of a public range. */
export const userOfRange = written<{ kind: string; id: string }, { subnetId: string }>(
  `SELECT 'vpc' AS kind, v.id FROM "vpc" v WHERE v."uplinkSubnetIds" @> ARRAY[$subnetId]::uuid[] AND v."deletedAt" IS NULL LIMIT 1`,
);

/**
 * Takes a public address of a network for something; `wanted` takes that very one. Throws ADDRESS_EXHAUSTED, ADDRESS_IN_USE, or INVALID_ARGUMENT where
 * it is none that is given out.
 */
export async function takePublicAddress(
  tx: Transaction,
  {
    networkId,
    ownerId,
    projectId = null,
    wanted,
    field,
  }: { networkId: string; ownerId: string; projectId?: string | null; wanted: string | null; field: string },
): Promise<PublicAddress> {
  const ranges = await publicRanges(tx, { networkId, wanted });
  const fitting = wanted ? ranges.filter(({ holds }) => holds) : ranges;
  if (wanted && fitting.length === 0)
    throw new Problem('INVALID_ARGUMENT', `${field} is no address that network ${networkId} gives out`, {
      violations: [{ field, message: 'is no address that the network gives out' }],
    });
  for (const { id, gateway, prefixLength } of fitting) {
    try {
      const address = await takeAddress(tx, id, ownerId, wanted, field, projectId);
      return { subnetId: id, address, gateway, prefixLength };
    } catch (error) {
      if (!(error instanceof Problem && error.code === 'ADDRESS_EXHAUSTED')) throw error;
    }
  }
  throw new Problem('ADDRESS_EXHAUSTED', `network ${networkId} has no free public address left`);
}

/** Where a VPC's gateway may be: hosts that answer, at the wires of all these networks, the least used first. */
const gatewayHosts = written<{ id: string; podId: string }, { zoneId: string; networkIds: string[] }>(
  `SELECT h.id, c."podId" FROM "host" h JOIN "cluster" c ON c.id = h."clusterId"
   WHERE c."zoneId" = $zoneId AND h."deletedAt" IS NULL AND h."deadAt" IS NULL AND h."fencedAt" IS NULL AND h.connection = 'connected'
     AND h.state IN (${literals(servingStates)}) AND NOT EXISTS (
       SELECT 1 FROM "network" k JOIN "physicalNetwork" p ON p.id = k."physicalNetworkId"
       WHERE k.id = ANY($networkIds::uuid[]) AND NOT p."clusterIds" @> ARRAY[h."clusterId"])
   ORDER BY (SELECT count(*) FROM "vpc" v WHERE v."gatewayHostIds" @> ARRAY[h.id] AND v."deletedAt" IS NULL), h.id LIMIT 500`,
);

/**
 * The hosts that carry a VPC, the first one first: those that do already and still can, and where they are too few, others; two of them in two pods where
 * there are two. @throws Problem NO_CAPACITY where there is none
 */
export async function chooseGateways(
  on: Queryable,
  need: { zoneId: string; networkIds: string[]; count: number; present: readonly string[] },
): Promise<string[]> {
  if (need.networkIds.length === 0) return [];
  const hosts = await gatewayHosts(on, need);
  const able = new Map(hosts.map(({ id, podId }) => [id, podId]));
  const chosen = need.present.filter((id) => able.has(id));
  while (chosen.length < need.count) {
    const pods = new Set(chosen.map((id) => able.get(id)));
    const left = hosts.filter(({ id }) => !chosen.includes(id));
    const next = left.find(({ podId }) => !pods.has(podId)) ?? left[0];
    if (!next) break;
    chosen.push(next.id);
  }
  if (chosen.length === 0)
    throw new Problem('NO_CAPACITY', 'no connected host of the zone is at the wires of the networks that lead outside');
  return chosen;
}

export interface VpcRecord {
  id: string;
  zoneId: string;
  projectId: string;
  cidrs: string[];
  uplinks: Uplink[];
  gatewayHostIds: string[];
  routerTypeId: string | null;
  redundant: boolean;
}

const columns = `v.id, v."zoneId", v."projectId", v.cidrs, v.uplinks, v."gatewayHostIds", v."routerTypeId", coalesce(t.redundant, true) AS redundant`;

export const vpcOf = written<VpcRecord, { vpcId: string }>(
  `SELECT ${columns} FROM "vpc" v LEFT JOIN "routerType" t ON t.id = v."routerTypeId" WHERE v.id = $vpcId`,
);

/** Nobody else changes it, and no subnet comes meanwhile. */
export const lockVpc = written<VpcRecord, { vpcId: string }>(
  `SELECT ${columns} FROM "vpc" v LEFT JOIN "routerType" t ON t.id = v."routerTypeId" WHERE v.id = $vpcId FOR UPDATE OF v`,
);

/** Of a network in a VPC: that VPC, whose ranges stay until the subnet is there. */
export const vpcOfNetwork = written<{ id: string; cidrs: string[] }, { networkId: string }>(
  `SELECT v.id, v.cidrs FROM "network" n JOIN "vpc" v ON v.id = n."vpcId" WHERE n.id = $networkId FOR SHARE OF v`,
);

export const writeUplinks = written<
  never,
  { vpcId: string; uplinks: string; networkIds: string[]; subnetIds: string[]; publicAddress: string | null }
>(
  `UPDATE "vpc" SET uplinks = $uplinks::jsonb, "uplinkNetworkIds" = $networkIds::uuid[], "uplinkSubnetIds" = $subnetIds::uuid[],
     "publicAddress" = $publicAddress::inet WHERE id = $vpcId`,
);

export const writeGateways = written<never, { vpcId: string; hostIds: string[] }>(
  `UPDATE "vpc" SET "gatewayHostIds" = $hostIds::uuid[] WHERE id = $vpcId`,
);

export const writeType = written<never, { vpcId: string; routerTypeId: string | null; hostIds: string[] }>(
  `UPDATE "vpc" SET "routerTypeId" = $routerTypeId::uuid, "gatewayHostIds" = $hostIds::uuid[] WHERE id = $vpcId`,
);

/** Whether VPCs of a type have two gateway hosts; nothing of one that is gone. */
export const redundancyOf = written<{ redundant: boolean }, { routerTypeId: string }>(
  `SELECT redundant FROM "routerType" WHERE id = $routerTypeId AND "deletedAt" IS NULL`,
);

export const writeCidrs = written<never, { vpcId: string; cidrs: string }>(
  `UPDATE "vpc" SET cidrs = $cidrs::jsonb WHERE id = $vpcId`,
);

/** A subnet of the VPC that lies in none of the ranges. */
export const subnetOutside = written<{ id: string }, { vpcId: string; cidrs: string }>(
  `SELECT s.id FROM "subnet" s WHERE s."vpcId" = $vpcId AND s.family = 4 AND s."deletedAt" IS NULL
     AND NOT EXISTS (SELECT 1 FROM jsonb_array_elements_text($cidrs::jsonb) AS c(cidr) WHERE s.cidr::inet <<= c.cidr::inet) LIMIT 1`,
);

/** What is at the router of a VPC beside its uplinks. */
export const partsOfVpc = written<
  { kind: 'subnet' | 'routeTable' | 'floatingIp' | 'portForward' | 'loadBalancer' | 'listener'; id: string },
  { vpcId: string }
>(
  `SELECT 'subnet' AS kind, s.id FROM "subnet" s WHERE s."vpcId" = $vpcId AND s.state = 'ready' AND s."deletedAt" IS NULL
   UNION ALL SELECT 'routeTable', t.id FROM "routeTable" t WHERE t."vpcId" = $vpcId AND t.state = 'ready' AND t."deletedAt" IS NULL
   UNION ALL SELECT 'floatingIp', f.id FROM "floatingIp" f WHERE f."vpcId" = $vpcId AND f.state = 'ready' AND f."deletedAt" IS NULL
   UNION ALL SELECT 'portForward', p.id FROM "portForward" p WHERE p."vpcId" = $vpcId AND p.state = 'ready' AND p."deletedAt" IS NULL
   UNION ALL SELECT 'loadBalancer', b.id FROM "loadBalancer" b WHERE b."vpcId" = $vpcId AND b.state = 'ready' AND b."deletedAt" IS NULL
   UNION ALL SELECT 'listener', l.id FROM "listener" l JOIN "loadBalancer" b ON b.id = l."loadBalancerId"
     WHERE b."vpcId" = $vpcId AND b.state = 'ready' AND l.state = 'ready' AND l."deletedAt" IS NULL ORDER BY 1, 2`,
);

/** What leads through an uplink: an address of its network, or a route. */
export const userOfUplink = written<
  { kind: string; id: string },
  { vpcId: string; subnetId: string; networkId: string }
>(
  `SELECT 'floatingIp' AS kind, f.id FROM "floatingIp" f WHERE f."vpcId" = $vpcId AND f."networkId" = $networkId AND f."deletedAt" IS NULL
   UNION ALL SELECT 'portForward', p.id FROM "portForward" p JOIN "floatingIp" f ON f.id = p."floatingIpId"
     WHERE p."vpcId" = $vpcId AND f."networkId" = $networkId AND p."deletedAt" IS NULL
   UNION ALL SELECT 'loadBalancer', b.id FROM "loadBalancer" b JOIN "floatingIp" f ON f.id = b."floatingIpId"
     WHERE b."vpcId" = $vpcId AND f."networkId" = $networkId AND b."deletedAt" IS NULL
   UNION ALL SELECT 'routeTable' AS kind, t.id FROM "routeTable" t, jsonb_to_recordset(t.routes) AS r("nextHop" inet), "subnet" s
   WHERE t."vpcId" = $vpcId AND t."deletedAt" IS NULL AND s.id = $subnetId AND r."nextHop" << s.cidr::inet LIMIT 1`,
);

export interface RouteTableRecord {
  id: string;
  vpcId: string;
  isMain: boolean;
  routes: { cidr: string; nextHop?: string; blackhole?: boolean }[];
}

export const routeTableOf = written<RouteTableRecord, { routeTableId: string }>(
  `SELECT id, "vpcId", "isMain", routes FROM "routeTable" WHERE id = $routeTableId`,
);

/** Where packets of a VPC may be sent on to: its subnets, and the ranges that its uplinks are in. What of these is the router itself is no way on. */
export const waysOf = written<{ cidr: string; own: string; inside: boolean }, { vpcId: string }>(
  `SELECT s.cidr::text AS cidr, host(s.gateway) AS own, true AS inside FROM "subnet" s WHERE s."vpcId" = $vpcId AND s."deletedAt" IS NULL
   UNION ALL SELECT s.cidr::text, u.address, false FROM "vpc" v, jsonb_to_recordset(v.uplinks) AS u("subnetId" uuid, address text) JOIN "subnet" s ON s.id = u."subnetId"
     WHERE v.id = $vpcId`,
);
