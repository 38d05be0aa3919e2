/**
 * Records beside what was found on the real systems. Each statement takes a page of what was found as JSON, and answers the rows of which the two
 * do not agree, and those that somebody is at work on: of these nothing can be said.
 */
import { columnsOf } from '../model/columns.ts';
import type { Entry } from '../model/network/addressGroup.ts';
import type { PolicyDefaults, PolicyRule } from '../model/network/firewallPolicy.ts';
import { servingStates } from '../model/platform/host.ts';
import { shardCount } from '../model/shards.ts';
import type { PoolType } from '../model/storage/poolTypes.ts';
import { type FloatingIpRecord, forwardColumns, type PortForwardRecord } from './floatingIps.ts';
import { type BalancerRecord, type ListenerRecord, listenerColumns, listenerTables } from './loadBalancers.ts';
import { type Port, portColumns, type Served, servedColumns } from './networks.ts';
import { from, literals, statementOfKind, tableOf, type Values, written } from './statement.ts';
import type { RouteTableRecord, VpcRecord } from './vpcs.ts';

/** As the database has it; what was seen before it is not told from what was seen after by any other clock. */
export const clock = written<{ at: Date }>(`SELECT clock_timestamp() AS at`);

/** An operation that has made the thing, as its tag says, and has not ended. */
const isBeingMade = `EXISTS (SELECT 1 FROM "operation" o WHERE o.id = r.operation AND o."endedAt" IS NULL)`;

export interface GuestRow {
  id: string;
  /** What the host says of it; null where the host does not know it. */
  found: string | null;
  /** Null where there is no record. */
  state: string | null;
  hostId: string | null;
  busy: boolean;
  /** A guest of it was found on another host, too. */
  elsewhere: string | null;
}

/** The guests that a host says it has, and those that it should have. */
export const guestsBesideRecords = written<GuestRow, { hostId: string; guests: string }>(
  `WITH r AS MATERIALIZED (
     SELECT * FROM jsonb_to_recordset($guests::jsonb) AS r(id uuid, state text, operation uuid)),
   i AS MATERIALIZED (
     SELECT i.id, i.state, i."hostId", i."currentOperationId" FROM "instance" i
     WHERE i."deletedAt" IS NULL AND (i."hostId" = $hostId OR i.id = ANY(ARRAY(SELECT r.id FROM r))))
   SELECT * FROM (
     SELECT coalesce(r.id, i.id) AS id, r.state AS found, i.state, i."hostId",
       i."currentOperationId" IS NOT NULL OR (i.id IS NULL AND ${isBeingMade}) AS busy,
       (SELECT f.location FROM "finding" f WHERE f.class = 'misplaced' AND f."resourceKind" = 'instance' AND f."resourceId" = i.id
          AND f.what = 'guestElsewhere' AND f.state IN ('sighted', 'open', 'ignored', 'repairing') AND f.location <> $hostId::text
          AND f."deletedAt" IS NULL) AS elsewhere
     FROM r FULL JOIN i ON i.id = r.id) both_sides
   WHERE busy OR elsewhere IS NOT NULL OR found IS NULL OR found NOT IN ('running', 'paused') OR state IS DISTINCT FROM 'running'
     OR "hostId" IS DISTINCT FROM $hostId::uuid`,
);

export interface DiskRow {
  of: 'volume' | 'image' | 'seed';
  id: string;
  found: boolean;
  trashed: boolean;
  state: string | null;
  poolId: string | null;
  busy: boolean;
}

/** What a pool says lies in it, and what should. */
export const disksBesideRecords = written<DiskRow, { poolId: string; disks: string }>(
  `WITH r AS MATERIALIZED (
     SELECT * FROM jsonb_to_recordset($disks::jsonb) AS r("of" text, id uuid, trashed boolean, operation uuid)),
   v AS MATERIALIZED (
     SELECT v.id, v.state, v."poolId", v."currentOperationId" IS NOT NULL OR i."currentOperationId" IS NOT NULL AS busy
     FROM "volume" v LEFT JOIN "instance" i ON i.id = v."instanceId"
     WHERE v."deletedAt" IS NULL AND (v."poolId" = $poolId OR v.id = ANY(ARRAY(SELECT r.id FROM r WHERE r."of" = 'volume')))),
   c AS MATERIALIZED (SELECT c."imageId" AS id, c.state FROM "imageCache" c WHERE c."poolId" = $poolId)
   SELECT * FROM (
     SELECT 'volume' AS "of", coalesce(r.id, v.id) AS id, r.id IS NOT NULL AS found, coalesce(r.trashed, false) AS trashed,
       v.state, v."poolId", coalesce(v.busy, ${isBeingMade}) AS busy
     FROM (SELECT * FROM r WHERE r."of" = 'volume') r FULL JOIN v ON v.id = r.id
     UNION ALL
     SELECT 'image', coalesce(r.id, c.id), r.id IS NOT NULL, false, c.state, NULL, coalesce(c.state <> 'ready', ${isBeingMade})
     FROM (SELECT * FROM r WHERE r."of" = 'image') r FULL JOIN c ON c.id = r.id
     UNION ALL
     SELECT 'seed', r.id, true, false, i.state, NULL, coalesce(i."currentOperationId" IS NOT NULL, ${isBeingMade})
     FROM r LEFT JOIN "instance" i ON i.id = r.id AND i."deletedAt" IS NULL WHERE r."of" = 'seed') both_sides
   WHERE busy OR state IS NULL OR NOT found
     OR ("of" = 'volume' AND ("poolId" IS DISTINCT FROM $poolId::uuid OR (state = 'destroyed') <> trashed))`,
);

/** So many rows of records are compared with OVN at a time. */
export const ovnPage = 2_000;
const page = (alias: string): string => `${alias}.id > $after::uuid ORDER BY ${alias}.id LIMIT ${ovnPage}`;

interface Recorded {
  id: string;
  /** Its rows should be there. */
  wanted: boolean;
  busy: boolean;
}

export const recordedNetworks = written<
  Recorded & { zoneId: string | null; type: string; physicalNetworkId: string | null; segmentId: number | null },
  { after: string }
>(
  `SELECT n.id, n."zoneId", n.type, n."physicalNetworkId", n."segmentId", n.state = 'ready' AS wanted, n."currentOperationId" IS NOT NULL AS busy
   FROM "network" n WHERE n."deletedAt" IS NULL AND ${page('n')}`,
);

export const recordedSubnets = written<Recorded & Served & { zoneId: string | null }, { after: string }>(
  `SELECT s.id, n."zoneId", s.state = 'ready' AND ((s.dhcp AND s."ipv6Mode" IS DISTINCT FROM 'slaac') OR s."vpcId" IS NOT NULL) AS wanted,
     s."currentOperationId" IS NOT NULL OR n."currentOperationId" IS NOT NULL AS busy, ${servedColumns}
   FROM "subnet" s JOIN "network" n ON n.id = s."networkId" JOIN "zone" z ON z.id = n."zoneId" WHERE s."deletedAt" IS NULL AND ${page('s')}`,
);

/** Of no zone: OVN knows each by its name, wherever a rule names it. */
export const recordedAddressGroups = written<
  Recorded & { zoneId: null; family: number; entries: Entry[] },
  { after: string }
>(
  `SELECT g.id, NULL AS "zoneId", g.family, g.entries, g.state = 'ready' AS wanted, g."currentOperationId" IS NOT NULL AS busy
   FROM "addressGroup" g WHERE g."deletedAt" IS NULL AND ${page('g')}`,
);

export const recordedGroups = written<Recorded & { zoneId: string | null; rules: unknown }, { after: string }>(
  `SELECT g.id, g."zoneId", g.rules, g.state = 'ready' AS wanted, g."currentOperationId" IS NOT NULL AS busy
   FROM "securityGroup" g WHERE g."deletedAt" IS NULL AND ${page('g')}`,
);

export const recordedVpcs = written<Recorded & VpcRecord, { after: string }>(
  `SELECT v.id, v."zoneId", v."projectId", v.cidrs, v.uplinks, v."gatewayHostIds", true AS redundant,
     v.state = 'ready' AS wanted, v."currentOperationId" IS NOT NULL AS busy
   FROM "vpc" v WHERE v."deletedAt" IS NULL AND ${page('v')}`,
);

export const recordedRouteTables = written<Recorded & RouteTableRecord & { zoneId: string }, { after: string }>(
  `SELECT t.id, t."vpcId", t."isMain", t.routes, v."zoneId", t.state = 'ready' AS wanted,
     t."currentOperationId" IS NOT NULL OR v."currentOperationId" IS NOT NULL AS busy
   FROM "routeTable" t JOIN "vpc" v ON v.id = t."vpcId" WHERE t."deletedAt" IS NULL AND ${page('t')}`,
);

/** With the entries of the address groups that its rules name: what is written for it follows from both. */
export const recordedPolicies = written<
  Recorded & {
    zoneId: null;
    rules: PolicyRule[];
    defaults: PolicyDefaults;
    groups: { id: string; entries: Entry[] }[];
  },
  { after: string }
>(
  `SELECT p.id, NULL AS "zoneId", p.rules, p.defaults, p.state = 'ready' AS wanted,
     p."currentOperationId" IS NOT NULL OR coalesce(g.busy, false) AS busy, coalesce(g.groups, '[]') AS groups
   FROM "firewallPolicy" p CROSS JOIN LATERAL (
     SELECT bool_or(a."currentOperationId" IS NOT NULL) AS busy, jsonb_agg(jsonb_build_object('id', a.id, 'entries', a.entries)) AS groups
     FROM "addressGroup" a WHERE a.id = ANY(p."addressGroupIds")) g
   WHERE p."deletedAt" IS NULL AND ${page('p')}`,
);

export const recordedFloatingIps = written<Recorded & FloatingIpRecord & { zoneId: string }, { after: string }>(
  `SELECT f.id, f."networkId", host(f.address) AS address, f."networkInterfaceId", host(f."fixedAddress") AS "fixedAddress", f."vpcId", f."zoneId",
     f.state = 'ready' AND f."vpcId" IS NOT NULL AS wanted, f."currentOperationId" IS NOT NULL OR v."currentOperationId" IS NOT NULL AS busy
   FROM "floatingIp" f LEFT JOIN "vpc" v ON v.id = f."vpcId" WHERE f."deletedAt" IS NULL AND ${page('f')}`,
);

export const recordedForwards = written<Recorded & PortForwardRecord & { zoneId: string | null }, { after: string }>(
  `SELECT ${forwardColumns}, f."zoneId", p.state = 'ready' AND p."vpcId" IS NOT NULL AS wanted,
     p."currentOperationId" IS NOT NULL OR f."currentOperationId" IS NOT NULL AS busy
   FROM "portForward" p JOIN "floatingIp" f ON f.id = p."floatingIpId" WHERE p."deletedAt" IS NULL AND ${page('p')}`,
);

/** With the networks of its VPC, at whose switches it is. */
export const recordedBalancers = written<
  Recorded & BalancerRecord & { zoneId: string; networkIds: string[] },
  { after: string }
>(
  `SELECT b.id, b."vpcId", v."zoneId", b.state = 'ready' AS wanted, b."currentOperationId" IS NOT NULL OR v."currentOperationId" IS NOT NULL AS busy,
     ARRAY(SELECT n.id FROM "network" n WHERE n."vpcId" = b."vpcId" AND n.state = 'ready' AND n."deletedAt" IS NULL) AS "networkIds"
   FROM "loadBalancer" b JOIN "vpc" v ON v.id = b."vpcId" WHERE b."deletedAt" IS NULL AND ${page('b')}`,
);

export const recordedListeners = written<Recorded & ListenerRecord & { zoneId: string }, { after: string }>(
  `SELECT ${listenerColumns}, (SELECT v."zoneId" FROM "vpc" v WHERE v.id = b."vpcId") AS "zoneId", l.state = 'ready' AS wanted,
     l."currentOperationId" IS NOT NULL OR g."currentOperationId" IS NOT NULL OR b."currentOperationId" IS NOT NULL AS busy
   FROM ${listenerTables} WHERE l."deletedAt" IS NULL AND ${page('l')}`,
);

export interface RecordedPort extends Recorded, Omit<Port, 'networkId' | 'mac' | 'address'> {
  networkId: string;
  mac: string;
  address: string;
  zoneId: string | null;
  instanceId: string | null;
}

export const recordedPorts = written<RecordedPort, { after: string }>(
  `SELECT ${portColumns}, k."zoneId", n."instanceId",
     CASE WHEN n."instanceId" IS NULL THEN n.state = 'ready' ELSE i.state IN ('running', 'stopped') END AS wanted,
     n."currentOperationId" IS NOT NULL OR i."currentOperationId" IS NOT NULL OR k."currentOperationId" IS NOT NULL AS busy
   FROM "networkInterface" n JOIN "network" k ON k.id = n."networkId" LEFT JOIN "instance" i ON i.id = n."instanceId"
     LEFT JOIN "subnet" s ON s.id = n."subnetId" LEFT JOIN "subnet" s6 ON s6.id = n."subnet6Id"
   WHERE n."deletedAt" IS NULL AND ${page('n')}`,
);

/** Whether there is a record of it; what had one and has none any more never gets one again. */
export const livingOf = statementOfKind(
  (kind, p: Values<{ id: string }>) =>
    from.selectFrom(tableOf(kind)).select('t.id').where('t.id', '=', p.id).where('t.deletedAt', 'is', null),
  (kind) => columnsOf(kind).some(({ name }) => name === 'deletedAt'),
);

/** Whether an instance is at home on a host, or has a place there to come to. */
export const atHomeOn = written<{ id: string }, { instanceId: string; hostId: string }>(
  `SELECT i.id FROM "instance" i WHERE i.id = $instanceId AND i."deletedAt" IS NULL AND (i."hostId" = $hostId
     OR EXISTS (SELECT 1 FROM "hostClaim" c WHERE c."instanceId" = i.id AND c."hostId" = $hostId))`,
);

const canBeAsked = `h."deletedAt" IS NULL AND h."deadAt" IS NULL AND h."fencedAt" IS NULL AND h.connection = 'connected'
     AND h.state IN (${literals(servingStates)})`;

/** Hosts that can be asked: so many of a shard from one on, in the order of their ids. */
export const hostsToScan = written<{ id: string }, { shard: number; from: string; most: number }>(
  `SELECT h.id FROM "host" h WHERE h.shard = $shard AND h.id >= $from AND ${canBeAsked} ORDER BY h.id LIMIT $most`,
);

/** Those of these that can be asked. */
export const askable = written<{ id: string }, { ids: string[] }>(
  `SELECT h.id FROM "host" h WHERE h.id = ANY($ids::uuid[]) AND ${canBeAsked} ORDER BY h.id`,
);

/** The first of them of each shard that has some. */
export const firstToScan = written<{ id: string }>(
  `SELECT first.id FROM generate_series(0, ${shardCount - 1}) AS s(n), LATERAL (
     SELECT h.id FROM "host" h WHERE h.shard = s.n AND ${canBeAsked} ORDER BY h.id LIMIT 1) first`,
);

/** Pools that are in use. */
export const poolsToScan = written<{ id: string; type: PoolType }>(
  `SELECT p.id, p.type FROM "storagePool" p WHERE p."deletedAt" IS NULL AND p.state = 'ready' ORDER BY p.id`,
);

/** Hosts and pools where findings were seen, and where nobody looks any more. */
export const locationsGone = written<{ location: string }>(
  `SELECT DISTINCT f.location FROM "finding" f WHERE f.system IN ('libvirt', 'rbd', 'host') AND f.state IN ('sighted', 'open', 'ignored')
     AND f.location IS NOT NULL AND f.class <> 'risk' AND f."deletedAt" IS NULL
     AND NOT EXISTS (SELECT 1 FROM "host" h WHERE h.id::text = f.location AND h."deletedAt" IS NULL AND h."deadAt" IS NULL)
     AND NOT EXISTS (SELECT 1 FROM "storagePool" p WHERE p.id::text = f.location AND p."deletedAt" IS NULL)`,
);

export const stuckOperations = written<{ id: string; type: string; message: string | null }>(
  `SELECT o.id, o.type, o.error->>'message' AS message FROM "operation" o WHERE o.state = 'stuck' LIMIT 1000`,
);

/** Pools of which nearly all is promised. */
export const fullPools = written<{ id: string; name: string; percent: number }>(
  `SELECT p.id, p.name, round(100 * sum(v."sizeGib") / (p."totalGib" * p.overprovision))::int AS percent
   FROM "storagePool" p JOIN "volume" v ON v."poolId" = p.id AND v."deletedAt" IS NULL
   WHERE p."deletedAt" IS NULL AND p.state = 'ready' AND p."totalGib" > 0 GROUP BY p.id
   HAVING sum(v."sizeGib") >= 0.85 * p."totalGib" * p.overprovision`,
);

/** Hosts whose count of what is placed there is not the sum of it. */
export const miscountedHosts = written<{ id: string; counted: string; summed: string }>(
  `SELECT c."hostId" AS id, c."claimedVcpus" || ' vCPUs, ' || c."claimedMemoryMib" || ' MiB' AS counted,
     coalesce(s.v, 0) || ' vCPUs, ' || coalesce(s.m, 0) || ' MiB' AS summed
   FROM "hostCapacity" c LEFT JOIN (SELECT "hostId", sum(vcpus) AS v, sum("memoryMib") AS m FROM "hostClaim" GROUP BY 1) s USING ("hostId")
   WHERE c."claimedVcpus" <> coalesce(s.v, 0) OR c."claimedMemoryMib" <> coalesce(s.m, 0)`,
);

/** What is to be repaired without asking; of those that the same would mend, one. What could not be repaired is left alone for an hour. */
export const toRepair = written<{ id: string }, { systems: string[] }>(
  `SELECT DISTINCT ON (f.repair->>'action', coalesce(f.repair->>'targetId', f."resourceId"::text), f.repair->'input') f.id
   FROM "finding" f WHERE f.state = 'open' AND f.repair IS NOT NULL AND f."deletedAt" IS NULL AND f.system = ANY($systems::text[])
     AND (SELECT s.value FROM "setting" s WHERE s.name = 'audit.autoRepair') ? (f.system || '.' || f.class)
     AND NOT EXISTS (SELECT 1 FROM "operation" o WHERE o."targetId" = f.id AND o.type = 'finding.repair' AND o."createdAt" > now() - interval '1 hour')
   LIMIT 50`,
);
