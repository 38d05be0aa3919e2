/** What public addresses lead to. */
import { written } from './statement.ts';

/** An interface that a public address leads to, and at whose router it is. */
export interface Target {
  networkInterfaceId: string;
  fixedAddress: string;
  vpcId: string;
}

/** An interface as a target of the addresses of a network: null in `vpcId` where its subnet is in no VPC, and `reached` says whether that has an uplink there. */
export const targetOn = written<
  {
    networkInterfaceId: string;
    fixedAddress: string | null;
    vpcId: string | null;
    reached: boolean;
    services: string[] | null;
  },
  { networkInterfaceId: string; networkId: string }
>(
  `SELECT n.id AS "networkInterfaceId", host(n.address) AS "fixedAddress", s."vpcId",
     coalesce(v."uplinkNetworkIds" @> ARRAY[$networkId]::uuid[], false) AS reached, t.services
   FROM "networkInterface" n JOIN "subnet" s ON s.id = n."subnetId" LEFT JOIN "vpc" v ON v.id = s."vpcId" LEFT JOIN "routerType" t ON t.id = v."routerTypeId"
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
  vpcId: string;
  /** Public, and inside. */
  publicAddress: string;
  address: string;
  protocol: 'tcp' | 'udp';
  publicPorts: { from: number; to?: number };
  targetPorts: { from: number; to?: number };
  allowedCidrs: string[];
  addressGroupId: string | null;
  /** Of its VPC, to the network of the address; null where it has gone. */
  uplinkId: string | null;
  networkId: string;
}

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
