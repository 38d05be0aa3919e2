/** What a zone has, and what of that is promised. */
import { promisableGib, promisedGib } from './placement.ts';
import { from, statement, type Values, written } from './statement.ts';

/** Per cluster, of the hosts that placement may use; `closed` are the others. */
export const clusterCapacity = written<
  {
    clusterId: string;
    clusterName: string;
    hosts: number;
    closed: number;
    vcpus: number;
    claimedVcpus: number;
    reservedVcpus: number;
    memoryMib: number;
    claimedMemoryMib: number;
    reservedMemoryMib: number;
  },
  { zoneId: string }
>(
  `SELECT k.id AS "clusterId", k.name AS "clusterName", count(c."hostId") FILTER (WHERE c.open)::int AS hosts, count(h.id) FILTER (WHERE c.open IS NOT TRUE)::int AS closed,
     coalesce(sum(c.vcpus) FILTER (WHERE c.open), 0)::float8 AS vcpus, coalesce(sum(c."claimedVcpus") FILTER (WHERE c.open), 0)::float8 AS "claimedVcpus",
     coalesce(sum(c."reservedVcpus") FILTER (WHERE c.open), 0)::float8 AS "reservedVcpus",
     coalesce(sum(c."memoryMib") FILTER (WHERE c.open), 0)::float8 AS "memoryMib", coalesce(sum(c."claimedMemoryMib") FILTER (WHERE c.open), 0)::float8 AS "claimedMemoryMib",
     coalesce(sum(c."reservedMemoryMib") FILTER (WHERE c.open), 0)::float8 AS "reservedMemoryMib"
   FROM "cluster" k LEFT JOIN "host" h ON h."clusterId" = k.id AND h."deletedAt" IS NULL LEFT JOIN "hostCapacity" c ON c."hostId" = h.id
   WHERE k."zoneId" = $zoneId AND k."deletedAt" IS NULL GROUP BY k.id, k.name ORDER BY k.name, k.id`,
);

/** Of each cluster the host on which most memory is promised. */
export const fullestHosts = written<
  {
    clusterId: string;
    hostId: string;
    hostName: string;
    claimedVcpus: number;
    claimedMemoryMib: number;
    vcpus: number;
    memoryMib: number;
    instances: number;
  },
  { zoneId: string }
>(
  `SELECT DISTINCT ON (c."clusterId") c."clusterId", c."hostId", h.name AS "hostName", c."claimedVcpus", c."claimedMemoryMib", c.vcpus, c."memoryMib",
     (SELECT count(*)::int FROM "hostClaim" p WHERE p."hostId" = c."hostId") AS instances
   FROM "hostCapacity" c JOIN "host" h ON h.id = c."hostId" AND h."deletedAt" IS NULL WHERE c."zoneId" = $zoneId AND c.open
   ORDER BY c."clusterId", c."claimedMemoryMib" DESC, c."memoryMib" DESC, c."hostId"`,
);

export const poolCapacity = written<
  { poolId: string; poolName: string; storageClass: string; promisableGib: number; promisedGib: number },
  { zoneId: string }
>(
  `SELECT p.id AS "poolId", p.name AS "poolName", p."storageClass", ${promisableGib}::float8 AS "promisableGib", ${promisedGib()}::float8 AS "promisedGib"
   FROM "storagePool" p WHERE p."zoneId" = $zoneId AND p.state = 'ready' AND p."deletedAt" IS NULL ORDER BY p.name, p.id`,
);

/** Addresses that subnets give out, and those of them that are in use. A subnet is told when less than a tenth of it is left. */
export const addressCapacity = written<
  { subnets: number; addresses: number; used: number; nearlyFull: number },
  { zoneId: string }
>(
  `SELECT count(*)::int AS subnets, coalesce(sum(s.addresses), 0)::float8 AS addresses, coalesce(sum(s.used), 0)::float8 AS used,
     count(*) FILTER (WHERE s.addresses - s.used < 0.1 * s.addresses)::int AS "nearlyFull"
   FROM (SELECT s.id, (SELECT coalesce(sum(c.last - c.first + 1), 0) FROM "subnetCursor" c WHERE c."subnetId" = s.id) AS addresses,
           (SELECT count(*) FROM "subnetAddress" a WHERE a."subnetId" = s.id AND a."networkInterfaceId" IS NOT NULL) AS used
         FROM "subnet" s JOIN "network" n ON n.id = s."networkId" WHERE n."zoneId" = $zoneId AND s.family = 4 AND s."deletedAt" IS NULL AND n."deletedAt" IS NULL) s`,
);

/** The oldest report of the last so many days, which the present one is compared with. */
export const reportBefore = written<{ result: unknown }, { zoneId: string; days: number }>(
  `SELECT o.result FROM "operation" o WHERE o."targetId" = $zoneId AND o.type = 'zone.reportCapacity' AND o.state = 'succeeded'
     AND o."endedAt" > now() - make_interval(days => $days) ORDER BY o."endedAt" LIMIT 1`,
);

export const livingZone = statement((p: Values<{ zoneId: string }>) =>
  from.selectFrom('zone').select(['id', 'name']).where('id', '=', p.zoneId).where('deletedAt', 'is', null),
);

export const livingZones = statement(() =>
  from.selectFrom('zone').select('id').where('deletedAt', 'is', null).orderBy('id'),
);
