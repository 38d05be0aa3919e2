/** What the network is told, gathered from several records. */
import { written } from './statement.ts';

/** A port as the switch has to know it. */
export interface Port {
  id: string;
  networkId: string | null;
  subnetId: string | null;
  mac: string | null;
  address: string | null;
  securityGroupIds: string[];
  dhcp: boolean | null;
  portSecurity: boolean;
}

export const portsOfInstance = written<Port, { instanceId: string }>(
  `SELECT n.id, n."networkId", n."subnetId", n.mac, n.address, n."securityGroupIds", s.dhcp,
          coalesce(k."portSecurity", true) AS "portSecurity"
   FROM "networkInterface" n LEFT JOIN "network" k ON k.id = n."networkId" LEFT JOIN "subnet" s ON s.id = n."subnetId"
   WHERE n."instanceId" = $instanceId AND n."deletedAt" IS NULL ORDER BY n.index`,
);

/** Groups that interfaces on the network carry. */
export const groupsOnNetwork = written<{ id: string }, { networkId: string }>(
  `SELECT DISTINCT g.id FROM "networkInterface" n JOIN "securityGroup" g ON g.id = ANY(n."securityGroupIds")
   WHERE n."networkId" = $networkId AND n."deletedAt" IS NULL AND g."deletedAt" IS NULL AND g.state = 'ready' ORDER BY g.id`,
);

export const carriersOfGroup = written<{ id: string }, { id: string }>(
  `SELECT id FROM "networkInterface" WHERE "securityGroupIds" @> ARRAY[$id]::uuid[] AND "deletedAt" IS NULL ORDER BY id`,
);

/** A group with rules that name an address group, if there is one. */
export const rulesNaming = written<{ id: string }, { addressGroupId: string }>(
  `SELECT id FROM "securityGroup" WHERE "addressGroupIds" @> ARRAY[$addressGroupId]::uuid[] AND "deletedAt" IS NULL LIMIT 1`,
);

/** A subnet with what its network and its zone say where it says nothing. */
export interface Served {
  cidr: string;
  gateway: string | null;
  dhcp: boolean;
  leaseSeconds: number;
  dnsServers: string[];
  zoneServers: string[];
  domain: string | null;
  networkId: string;
  vpcId: string | null;
  routeTableId: string | null;
}

/** Of a subnet `s` in its network `n` and its zone `z`. */
export const servedColumns = `s.cidr::text AS cidr, host(s.gateway) AS gateway, s.dhcp, s."leaseSeconds", s."dnsServers", z."dnsServers" AS "zoneServers",
          coalesce(n."dnsDomain", z."domainName") AS domain, s."networkId", s."vpcId", s."routeTableId"`;

export const servedIn = written<Served, { subnetId: string }>(
  `SELECT ${servedColumns}
   FROM "subnet" s JOIN "network" n ON n.id = s."networkId" JOIN "zone" z ON z.id = n."zoneId" WHERE s.id = $subnetId`,
);
