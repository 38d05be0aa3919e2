/** What balancers of VPCs are told, and to whom they may send. */
import type { HealthCheck, Target } from '../model/network/targetGroup.ts';
import { freeAddress, takeAddress } from './addresses.ts';
import type { Transaction } from './database.ts';
import { written } from './statement.ts';

export interface BalancerRecord {
  id: string;
  vpcId: string;
}

export const loadBalancerOf = written<BalancerRecord, { loadBalancerId: string }>(
  `SELECT id, "vpcId" FROM "loadBalancer" WHERE id = $loadBalancerId`,
);

/** Networks of a VPC, those on their way too. */
export const networksOfVpc = written<{ id: string }, { vpcId: string }>(
  `SELECT id FROM "network" WHERE "vpcId" = $vpcId AND "deletedAt" IS NULL ORDER BY id`,
);

/** Load balancers at the router that a network is at. */
export const balancersOver = written<{ id: string }, { networkId: string }>(
  `SELECT b.id FROM "network" n JOIN "loadBalancer" b ON b."vpcId" = n."vpcId" WHERE n.id = $networkId AND b."deletedAt" IS NULL ORDER BY b.id`,
);

export const listenersOf = written<{ id: string }, { loadBalancerId: string }>(
  `SELECT id FROM "listener" WHERE "loadBalancerId" = $loadBalancerId AND state = 'ready' AND "deletedAt" IS NULL ORDER BY id`,
);

/** Of a target group what its listeners are told. */
export interface Spread {
  targets: Target[];
  algorithm: 'roundRobin' | 'sourceHash';
  healthCheck: HealthCheck;
}

export interface ListenerRecord extends Spread {
  id: string;
  loadBalancerId: string;
  vpcId: string;
  address: string;
  protocol: 'tcp' | 'udp';
  ports: { from: number; to?: number };
  enabled: boolean;
  targetGroupId: string;
  /** Of the group. */
  port: number | null;
  /** By an interface the address of its subnet from which it is asked. */
  probes: Record<string, string>;
}

/** The addresses from which the targets of a group `g` are asked, by their interfaces. */
const probes = `coalesce((SELECT jsonb_object_agg(n.id, host(a.address)) FROM "networkInterface" n
       JOIN "subnetAddress" a ON a."subnetId" = n."subnetId" AND a."networkInterfaceId" = g.id
     WHERE n.id = ANY(g."networkInterfaceIds")), '{}')`;

export const listenerColumns = `l.id, l."loadBalancerId", b."vpcId", host(b.address) AS address, l.protocol, l.ports, l.enabled,
     l."targetGroupId", g.port, g.targets, g.algorithm, g."healthCheck", ${probes} AS probes`;
/** A listener `l` with its load balancer `b` and its target group `g`. */
export const listenerTables = `"listener" l JOIN "loadBalancer" b ON b.id = l."loadBalancerId" JOIN "targetGroup" g ON g.id = l."targetGroupId"`;

export const listenerOf = written<ListenerRecord, { listenerId: string }>(
  `SELECT ${listenerColumns} FROM ${listenerTables} WHERE l.id = $listenerId`,
);

/** As it would send to another group. */
export const listenerWith = written<ListenerRecord, { listenerId: string; targetGroupId: string; enabled: boolean }>(
  `SELECT ${listenerColumns.replace('l.enabled', '$enabled::boolean AS enabled')} FROM ${listenerTables.replace(
    'g.id = l."targetGroupId"',
    'g.id = $targetGroupId::uuid',
  )} WHERE l.id = $listenerId`,
);

export const writeListener = written<never, { listenerId: string; targetGroupId: string; enabled: boolean }>(
  `UPDATE "listener" SET "targetGroupId" = $targetGroupId, enabled = $enabled WHERE id = $listenerId`,
);

/** Listeners that send to a group. */
export const listenersTo = written<{ id: string }, { targetGroupId: string }>(
  `SELECT id FROM "listener" WHERE "targetGroupId" = $targetGroupId AND "deletedAt" IS NULL ORDER BY id`,
);

/** Listeners that send to some of these interfaces. */
export const listenersNaming = written<{ id: string }, { networkInterfaceIds: string[] }>(
  `SELECT l.id FROM "targetGroup" g JOIN "listener" l ON l."targetGroupId" = g.id AND l."deletedAt" IS NULL
   WHERE g."networkInterfaceIds" && $networkInterfaceIds::uuid[] AND g."deletedAt" IS NULL ORDER BY l.id`,
);

/** Listeners of one balancer are accepted one after the other. */
export const lockBalancer = written<
  { id: string; vpcId: string; floatingIpId: string | null },
  { loadBalancerId: string }
>(`SELECT id, "vpcId", "floatingIpId" FROM "loadBalancer" WHERE id = $loadBalancerId FOR UPDATE`);

const overlaps = (ports: string): string =>
  `(${ports}->>'from')::int <= $last AND coalesce(${ports}->>'to', ${ports}->>'from')::int >= $first`;

/** Another listener of the balancer at one of these ports. */
export const listenerWithin = written<
  { id: string },
  { loadBalancerId: string; protocol: string; first: number; last: number }
>(
  `SELECT l.id FROM "listener" l WHERE l."loadBalancerId" = $loadBalancerId AND l.protocol = $protocol AND l."deletedAt" IS NULL
     AND ${overlaps('l.ports')} LIMIT 1`,
);

/** A listener at one of these ports of a floating IP. */
export const listenerAt = written<
  { id: string },
  { floatingIpId: string; protocol: string; first: number; last: number }
>(
  `SELECT l.id FROM "listener" l JOIN "loadBalancer" b ON b.id = l."loadBalancerId" WHERE b."floatingIpId" = $floatingIpId AND l.protocol = $protocol
     AND l."deletedAt" IS NULL AND ${overlaps('l.ports')} LIMIT 1`,
);

/** Whether a VPC has an uplink to a network, and what its router type offers; null: everything. */
export const reachOf = written<
  { reached: boolean; services: string[] | null; cidrs: string[] },
  { vpcId: string; networkId: string | null }
>(
  `SELECT coalesce(v."uplinkNetworkIds" @> ARRAY[$networkId::uuid], false) AS reached, t.services, v.cidrs
   FROM "vpc" v LEFT JOIN "routerType" t ON t.id = v."routerTypeId" WHERE v.id = $vpcId`,
);

/** The interface that each target is reached by, with its subnet: of an instance the first one in the VPC. Null where there is none in it. */
export const interfacesBehind = written<
  { place: number; id: string | null; subnetId: string | null },
  { vpcId: string; targets: string }
>(
  `SELECT t.place::int - 1 AS place, n.id, n."subnetId"
   FROM ROWS FROM (jsonb_to_recordset($targets::jsonb) AS ("instanceId" uuid, "networkInterfaceId" uuid)) WITH ORDINALITY AS t("instanceId", "networkInterfaceId", place)
     LEFT JOIN LATERAL (SELECT i.id, i."subnetId" FROM "networkInterface" i JOIN "subnet" s ON s.id = i."subnetId"
       WHERE s."vpcId" = $vpcId AND i."deletedAt" IS NULL AND (i.id = t."networkInterfaceId" OR i."instanceId" = t."instanceId")
       ORDER BY i.index, i.id LIMIT 1) n ON true
   ORDER BY t.place`,
);

export interface GroupRecord extends Spread {
  id: string;
  vpcId: string;
}

export const targetGroupOf = written<GroupRecord, { targetGroupId: string }>(
  `SELECT id, "vpcId", targets, algorithm, "healthCheck" FROM "targetGroup" WHERE id = $targetGroupId`,
);

export const writeSpread = written<
  never,
  {
    targetGroupId: string;
    targets: string;
    networkInterfaceIds: string[];
    algorithm: string;
    healthCheck: string;
  }
>(
  `UPDATE "targetGroup" SET targets = $targets::jsonb, "networkInterfaceIds" = $networkInterfaceIds::uuid[],
     algorithm = $algorithm, "healthCheck" = $healthCheck::jsonb WHERE id = $targetGroupId`,
);

/** Subnets of these interfaces in which the group has no address to ask from. */
const unprobed = written<{ subnetId: string }, { targetGroupId: string; networkInterfaceIds: string[] }>(
  `SELECT DISTINCT n."subnetId" FROM "networkInterface" n WHERE n.id = ANY($networkInterfaceIds::uuid[]) AND n."deletedAt" IS NULL
     AND NOT EXISTS (SELECT 1 FROM "subnetAddress" a WHERE a."subnetId" = n."subnetId" AND a."networkInterfaceId" = $targetGroupId) ORDER BY 1`,
);

/** Addresses from which the group asks targets in the subnets of these interfaces. */
const probed = written<{ address: string }, { targetGroupId: string; networkInterfaceIds: string[] }>(
  `SELECT host(a.address) AS address FROM "subnetAddress" a WHERE a."networkInterfaceId" = $targetGroupId
     AND a."subnetId" IN (SELECT n."subnetId" FROM "networkInterface" n WHERE n.id = ANY($networkInterfaceIds::uuid[]) AND n."deletedAt" IS NULL)`,
);

/** By these interfaces the address from which the group asks them. */
export const probesOf = written<
  { id: string; address: string },
  { targetGroupId: string; networkInterfaceIds: string[] }
>(
  `SELECT n.id, host(a.address) AS address FROM "networkInterface" n
     JOIN "subnetAddress" a ON a."subnetId" = n."subnetId" AND a."networkInterfaceId" = $targetGroupId
   WHERE n.id = ANY($networkInterfaceIds::uuid[])`,
);

/** Sees to it that the group has an address in each subnet of its targets. @throws Problem ADDRESS_EXHAUSTED */
export async function takeProbes(
  tx: Transaction,
  of: { targetGroupId: string; networkInterfaceIds: string[] },
): Promise<void> {
  for (const { subnetId } of await unprobed(tx, of)) await takeAddress(tx, subnetId, of.targetGroupId, null, 'targets');
}

/** The group has no other addresses than those from which it asks these. */
export async function keepProbes(
  tx: Transaction,
  of: { targetGroupId: string; networkInterfaceIds: string[] },
): Promise<void> {
  const kept = (await probed(tx, of)).map(({ address }) => address);
  await freeAddress(tx, of.targetGroupId, { kept });
}

/** Those of these interfaces that have a port in OVN, with the instance that each goes with. */
export const interfacesOfTargets = written<
  { id: string; instanceId: string | null; address: string | null },
  { networkInterfaceIds: string[] }
>(
  `SELECT n.id, n."instanceId", host(n.address) AS address FROM "networkInterface" n LEFT JOIN "instance" i ON i.id = n."instanceId"
   WHERE n.id = ANY($networkInterfaceIds::uuid[]) AND n."deletedAt" IS NULL AND i.state IS DISTINCT FROM 'destroyed'`,
);

/** At which ports targets of a group that name none are asked; none where no listener that is enabled sends to it. */
export const portsAsked = written<{ port: number }, { targetGroupId: string }>(
  `SELECT DISTINCT coalesce(g.port, p.port) AS port FROM "targetGroup" g JOIN "listener" l ON l."targetGroupId" = g.id
     CROSS JOIN LATERAL generate_series((l.ports->>'from')::int, coalesce(l.ports->>'to', l.ports->>'from')::int) AS p(port)
   WHERE g.id = $targetGroupId AND l.enabled AND l."deletedAt" IS NULL ORDER BY 1`,
);
