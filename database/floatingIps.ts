/** What public addresses lead to. */
import { written } from './statement.ts';

/** An interface that a public address leads to, and at whose router it is. */
export interface Target {
  networkInterfaceId: string;
  fixedAddress: string;
  vpcId: string;
}

/** Of instances whose interfaces are led to no more. */
export const destroyedStates: ReadonlySet<string> = new Set(['destroyed', 'expunging']);

/** An interface as a target of the addresses of a network: null in `vpcId` where its subnet is in no VPC, and `reached` says whether that has an uplink there. */
export const targetOn = written<
  {
    networkInterfaceId: string;
    fixedAddress: string | null;
    vpcId: string | null;
    reached: boolean;
    services: string[] | null;
    /** Of the instance that it goes with; null of one that is attached to none. */
    instanceState: string | null;
  },
  { networkInterfaceId: string; networkId: string }
>(
  `SELECT n.id AS "networkInterfaceId", host(n.address) AS "fixedAddress", s."vpcId",
     coalesce(v."uplinkNetworkIds" @> ARRAY[$networkId]::uuid[], false) AS reached, t.services, i.state AS "instanceState"
   FROM "networkInterface" n LEFT JOIN "instance" i ON i.id = n."instanceId" JOIN "subnet" s ON s.id = n."subnetId" LEFT JOIN "vpc" v ON v.id = s."vpcId" LEFT JOIN "routerType" t ON t.id = v."routerTypeId"
   WHERE n.id = $networkInterfaceId AND n."deletedAt" IS NULL`,
);

export interface FloatingIpRecord {
  id: string;
  networkId: string;
  address: string;
  networkInterfaceId: string | null;
  fixedAddress: string | null;
  vpcId: string | null;
}

const columns = `f.id, f."networkId", host(f.address) AS address, f."networkInterfaceId", host(f."fixedAddress") AS "fixedAddress", f."vpcId"`;

export const floatingIpOf = written<FloatingIpRecord, { floatingIpId: string }>(
  `SELECT ${columns} FROM "floatingIp" f WHERE f.id = $floatingIpId`,
);

export const writeTarget = written<
  never,
  { floatingIpId: string; networkInterfaceId: string | null; fixedAddress: string | null; vpcId: string | null }
>(
  `UPDATE "floatingIp" SET "networkInterfaceId" = $networkInterfaceId::uuid, "fixedAddress" = $fixedAddress::inet, "vpcId" = $vpcId::uuid WHERE id = $floatingIpId`,
);

/** What leads to an interface. */
export const leadingTo = written<{ kind: 'floatingIp' | 'portForward'; id: string }, { networkInterfaceId: string }>(
  `SELECT 'floatingIp' AS kind, id FROM "floatingIp" WHERE "networkInterfaceId" = $networkInterfaceId AND "deletedAt" IS NULL
   UNION ALL SELECT 'portForward', id FROM "portForward" WHERE "networkInterfaceId" = $networkInterfaceId AND "deletedAt" IS NULL LIMIT 1`,
);

/** Something that leads to an interface, and where it does. */
export interface WayIn {
  kind: 'floatingIp' | 'portForward';
  id: string;
  target: Target;
}

const wayInto = (kind: WayIn['kind'], where: string): string =>
  `SELECT '${kind}' AS kind, w.id, w.state, w."networkInterfaceId", host(w."${kind === 'floatingIp' ? 'fixedAddress' : 'address'}") AS "fixedAddress", w."vpcId",
     w."currentOperationId" FROM "${kind}" w WHERE ${where} AND w."vpcId" IS NOT NULL AND w."deletedAt" IS NULL`;
const waysWhere = (forwards: string, addresses: string): string =>
  `${wayInto('floatingIp', addresses)} UNION ALL ${wayInto('portForward', forwards)} ORDER BY kind, id`;

export interface WayInRow extends Target {
  kind: WayIn['kind'];
  id: string;
  state: string;
  currentOperationId: string | null;
}

const toAnyOf = `w."networkInterfaceId" = ANY($networkInterfaceIds::uuid[])`;

export const waysInto = written<WayInRow, { networkInterfaceIds: string[] }>(waysWhere(toAnyOf, toAnyOf));

/** Where a port forward leads; nothing of one that leads nowhere. */
export const wayOfForward = written<WayInRow, { portForwardId: string }>(
  wayInto('portForward', 'w.id = $portForwardId'),
);

/** Whoever ends it, or waits to do so, sees to it that it leads nowhere. */
const isStaying = (kind: string): string => `NOT EXISTS (SELECT 1 FROM "operationLock" l
   WHERE l."resourceKind" = '${kind}' AND l."resourceId" = w.id AND l.mode = 'D')`;
const leadsThere = (kind: string): string =>
  `SELECT '${kind}' AS kind, w.id FROM "${kind}" w WHERE ${toAnyOf} AND w."deletedAt" IS NULL AND w.state <> 'deleting' AND ${isStaying(kind)}`;

/** What leads to one of the interfaces, and what will when those who stand in line before it have had their turn. */
export const comingWaysInto = written<{ kind: WayIn['kind']; id: string }, { networkInterfaceIds: string[] }>(
  `${leadsThere('floatingIp')} UNION ${leadsThere('portForward')}
   UNION SELECT o."targetKind", o."targetId" FROM "operationLock" l JOIN "operation" o ON o.id = l."operationId"
     WHERE l."resourceKind" = 'networkInterface' AND l."resourceId" = ANY($networkInterfaceIds::uuid[])
       AND o.type IN ('floatingIp.attach', 'floatingIp.move', 'portForward.attach') ORDER BY 1, 2`,
);

/** A port forward or a load balancer at it, if there is one. */
export const portUserOf = written<{ kind: 'portForward' | 'loadBalancer'; id: string }, { floatingIpId: string }>(
  `SELECT 'portForward' AS kind, id FROM "portForward" WHERE "floatingIpId" = $floatingIpId AND "deletedAt" IS NULL
   UNION ALL SELECT 'loadBalancer', id FROM "loadBalancer" WHERE "floatingIpId" = $floatingIpId AND "deletedAt" IS NULL LIMIT 1`,
);

/** Port forwards of one address are accepted one after the other, and none while it is attached. */
export const lockFloatingIp = written<FloatingIpRecord, { floatingIpId: string }>(
  `SELECT ${columns} FROM "floatingIp" f WHERE f.id = $floatingIpId FOR UPDATE`,
);

/** A port forward of the address with one of these ports. */
export const forwardWith = written<
  { id: string },
  { floatingIpId: string; protocol: string; first: number; last: number }
>(
  `SELECT p.id FROM "portForward" p WHERE p."floatingIpId" = $floatingIpId AND p.protocol = $protocol AND p."deletedAt" IS NULL
     AND (p."publicPorts"->>'from')::int <= $last AND coalesce(p."publicPorts"->>'to', p."publicPorts"->>'from')::int >= $first LIMIT 1`,
);

export interface PortForwardRecord {
  id: string;
  /** Null where it leads nowhere. */
  vpcId: string | null;
  /** Public, and inside. */
  publicAddress: string;
  address: string | null;
  protocol: 'tcp' | 'udp';
  publicPorts: { from: number; to?: number };
  targetPorts: { from: number; to?: number };
  allowedCidrs: string[];
  addressGroupId: string | null;
  /** Of its VPC, to the network of the address; null where it has gone. */
  uplinkId: string | null;
  networkId: string;
}

/** One that leads somewhere. */
export type LeadingForward = PortForwardRecord & { vpcId: string; address: string };
export const isLeading = (forward: PortForwardRecord): forward is LeadingForward =>
  forward.vpcId !== null && forward.address !== null;

export const writeForward = written<
  never,
  { portForwardId: string; networkInterfaceId: string | null; address: string | null; vpcId: string | null }
>(
  `UPDATE "portForward" SET "networkInterfaceId" = $networkInterfaceId::uuid, address = $address::inet, "vpcId" = $vpcId::uuid WHERE id = $portForwardId`,
);

export const forwardColumns = `p.id, p."vpcId", host(f.address) AS "publicAddress", host(p.address) AS address, p.protocol, p."publicPorts",
     coalesce(p."targetPorts", p."publicPorts") AS "targetPorts", p."allowedCidrs", p."addressGroupId", f."networkId",
     (SELECT u.id FROM "vpc" v, jsonb_to_recordset(v.uplinks) AS u(id uuid, "networkId" uuid) WHERE v.id = p."vpcId" AND u."networkId" = f."networkId") AS "uplinkId"`;

export const portForwardOf = written<PortForwardRecord, { portForwardId: string }>(
  `SELECT ${forwardColumns} FROM "portForward" p JOIN "floatingIp" f ON f.id = p."floatingIpId" WHERE p.id = $portForwardId`,
);

/** The address that the interface of a port forward has by now. */
export const addressBehind = written<{ address: string }, { portForwardId: string }>(
  `SELECT host(n.address) AS address FROM "portForward" p JOIN "networkInterface" n ON n.id = p."networkInterfaceId" WHERE p.id = $portForwardId`,
);

export const writeAllowed = written<never, { portForwardId: string; allowedCidrs: string }>(
  `UPDATE "portForward" SET "allowedCidrs" = $allowedCidrs::jsonb WHERE id = $portForwardId`,
);
