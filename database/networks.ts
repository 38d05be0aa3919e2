/** What the network is told, gathered from several records. */

import type { PolicyDefaults, PolicyRule } from '../model/network/firewallPolicy.ts';
import type { Pair, Qos } from '../model/network/networkInterface.ts';
import { from, statement, type Values, written } from './statement.ts';

/** A port as the switch has to know it. */
export interface Port {
  id: string;
  networkId: string | null;
  subnetId: string | null;
  mac: string | null;
  address: string | null;
  subnet6Id: string | null;
  address6: string | null;
  /** Whether DHCPv6 tells its guest anything. */
  dhcp6: boolean;
  secondaryAddresses: string[];
  securityGroupIds: string[];
  dhcp: boolean | null;
  portSecurity: boolean;
  /** What it has where the interface itself says nothing. */
  networkPortSecurity: boolean;
  allowedPairs: Pair[];
  linkUp: boolean;
  qos: Qos | null;
  dnsName: string | null;
  /** What its network, or its zone, says behind that. */
  domain: string | null;
  /** The networks on which it is found by its name. */
  namedOn: string[];
  /** Of its network. */
  firewallPolicyId: string | null;
}

/** Of an interface `n` on its network `k` and its subnets `s` and `s6`. */
export const portColumns = `n.id, n."networkId", n."subnetId", n.mac, host(n.address) AS address, n."subnet6Id", host(n.address6) AS address6,
          coalesce(s6.dhcp AND s6."ipv6Mode" <> 'slaac', false) AS dhcp6, n."secondaryAddresses", n."securityGroupIds",
          coalesce(s.dhcp, false) AS dhcp, coalesce(n."portSecurity", k."portSecurity", true) AS "portSecurity",
          coalesce(k."portSecurity", true) AS "networkPortSecurity", n."allowedPairs", n."linkUp", n.qos, k."firewallPolicyId", n."dnsName",
          coalesce(k."dnsDomain", (SELECT z."domainName" FROM "zone" z WHERE z.id = k."zoneId")) AS domain,
          CASE WHEN k."vpcId" IS NULL THEN ARRAY[k.id]
            ELSE ARRAY(SELECT o.id FROM "network" o WHERE o."vpcId" = k."vpcId" AND o."deletedAt" IS NULL ORDER BY o.id) END AS "namedOn"`;

const ports = (which: string): string =>
  `SELECT ${portColumns} FROM "networkInterface" n LEFT JOIN "network" k ON k.id = n."networkId" LEFT JOIN "subnet" s ON s.id = n."subnetId"
     LEFT JOIN "subnet" s6 ON s6.id = n."subnet6Id"
   WHERE ${which} AND n."deletedAt" IS NULL ORDER BY n.index`;

export const portsOfInstance = written<Port, { instanceId: string }>(ports('n."instanceId" = $instanceId'));
export const portById = written<Port, { id: string }>(ports('n.id = $id'));

/** Ports on a network that belong to no instance, and are there all the same. */
export const loosePorts = written<{ id: string }, { networkId: string }>(
  `SELECT id FROM "networkInterface" WHERE "networkId" = $networkId AND "instanceId" IS NULL AND state <> 'failed' AND "deletedAt" IS NULL ORDER BY id`,
);

/** Interfaces of a VPC that have names, and ports: the other networks of the VPC know them too. */
export const namedInVpcOf = written<{ id: string }, { networkId: string }>(
  `SELECT n.id FROM "network" k JOIN "networkInterface" n ON n."vpcId" = k."vpcId"
   WHERE k.id = $networkId AND n."dnsName" IS NOT NULL AND n."deletedAt" IS NULL ORDER BY n.id`,
);

/** The lowest place that is free among the interfaces of an instance. */
export const takeInterfaceSlot = written<never, { networkInterfaceId: string; instanceId: string; slots: number }>(
  `UPDATE "networkInterface" n SET "instanceId" = $instanceId, index = free.slot FROM (
     SELECT min(slot) AS slot FROM generate_series(0, $slots::int - 1) slot WHERE NOT EXISTS (
       SELECT 1 FROM "networkInterface" o WHERE o."instanceId" = $instanceId AND o.index = slot AND o."deletedAt" IS NULL)) free
   WHERE n.id = $networkInterfaceId AND n."instanceId" IS NULL AND free.slot IS NOT NULL`,
);

/** Of interfaces the firewall policies of their networks. */
export const policiesOver = written<{ id: string; firewallPolicyId: string | null }, { ids: string[] }>(
  `SELECT n.id, k."firewallPolicyId" FROM "networkInterface" n JOIN "network" k ON k.id = n."networkId" WHERE n.id = ANY($ids::uuid[])`,
);

/** Groups that interfaces on the network carry. */
export const groupsOnNetwork = written<{ id: string }, { networkId: string }>(
  `SELECT DISTINCT g.id FROM "networkInterface" n JOIN "securityGroup" g ON g.id = ANY(n."securityGroupIds")
   WHERE n."networkId" = $networkId AND n."deletedAt" IS NULL AND g."deletedAt" IS NULL AND g.state = 'ready' ORDER BY g.id`,
);

export const carriersOfGroup = written<{ id: string }, { id: string }>(
  `SELECT id FROM "networkInterface" WHERE "securityGroupIds" @> ARRAY[$id]::uuid[] AND "deletedAt" IS NULL ORDER BY id`,
);

/** A security group, or a firewall policy, with rules that name an address group, if there is one. */
export const rulesNaming = written<{ id: string }, { addressGroupId: string }>(
  `SELECT id FROM "securityGroup" WHERE "addressGroupIds" @> ARRAY[$addressGroupId]::uuid[] AND "deletedAt" IS NULL
   UNION ALL SELECT id FROM "portForward" WHERE "addressGroupId" = $addressGroupId AND "deletedAt" IS NULL
   UNION ALL
   SELECT id FROM "firewallPolicy" WHERE "addressGroupIds" @> ARRAY[$addressGroupId]::uuid[] AND "deletedAt" IS NULL LIMIT 1`,
);

export interface NamingPolicy {
  id: string;
  rules: PolicyRule[];
  defaults: PolicyDefaults;
}

/** Firewall policies with rules that name an address group. */
export const policiesNaming = written<NamingPolicy, { addressGroupId: string }>(
  `SELECT id, rules, defaults FROM "firewallPolicy"
   WHERE "addressGroupIds" @> ARRAY[$addressGroupId]::uuid[] AND "deletedAt" IS NULL ORDER BY id`,
);

/** A network that carries a firewall policy, if there is one. */
export const networkCarrying = written<{ id: string }, { firewallPolicyId: string }>(
  `SELECT id FROM "network" WHERE "firewallPolicyId" = $firewallPolicyId AND "deletedAt" IS NULL LIMIT 1`,
);

/** An interface that carries a security group, or another group with rules that name it, if there is one. What one operation removes together names each other. */
export const namingGroup = written<{ kind: string; id: string }, { securityGroupId: string }>(
  `SELECT 'networkInterface' AS kind, id FROM "networkInterface" WHERE "securityGroupIds" @> ARRAY[$securityGroupId]::uuid[] AND "deletedAt" IS NULL
   UNION ALL
   SELECT 'securityGroup', g.id FROM "securityGroup" g
   WHERE g."remoteSecurityGroupIds" @> ARRAY[$securityGroupId]::uuid[] AND g."deletedAt" IS NULL AND g.id <> $securityGroupId
     AND NOT EXISTS (SELECT 1 FROM "operationLock" l JOIN "operationLock" o ON o."operationId" = l."operationId"
       WHERE l."resourceKind" = 'securityGroup' AND l."resourceId" = $securityGroupId AND l.mode = 'D' AND l.entered
         AND o."resourceKind" = 'securityGroup' AND o."resourceId" = g.id AND o.mode = 'D' AND o.entered)
   LIMIT 1`,
);

/** What decides of the traffic of an interface, beside its groups. */
export const carrierOf = written<
  { portSecurity: boolean; address: string; address6: string | null; firewallPolicyId: string | null },
  { id: string }
>(
  `SELECT coalesce(n."portSecurity", k."portSecurity", true) AS "portSecurity", host(n.address) AS address, host(n.address6) AS address6, k."firewallPolicyId"
   FROM "networkInterface" n LEFT JOIN "network" k ON k.id = n."networkId" WHERE n.id = $id`,
);

/** Of these groups those of which some interface has the address, wherever it is: OVN tells networks not apart here. */
export const groupsAt = written<{ id: string }, { groupIds: string[]; address: string }>(
  `SELECT DISTINCT g AS id FROM "networkInterface" n CROSS JOIN unnest(n."securityGroupIds") AS g
   WHERE n."securityGroupIds" && $groupIds::uuid[] AND g = ANY($groupIds::uuid[]) AND n."deletedAt" IS NULL
     AND (n.address = $address::inet OR n.address6 = $address::inet OR n."secondaryAddresses" @> to_jsonb($address::text))
     AND NOT EXISTS (SELECT 1 FROM "instance" i WHERE i.id = n."instanceId" AND i.state = 'destroyed')`,
);

/** A subnet with what its network and its zone say where it says nothing. */
export interface Served {
  cidr: string;
  gateway: string | null;
  dhcp: boolean;
  leaseSeconds: number;
  family: number;
  ipv6Mode: string | null;
  ntpServers: string[];
  searchDomains: string[];
  hostRoutes: { cidr: string; nextHop: string }[];
  dnsServers: string[];
  zoneServers: string[];
  domain: string | null;
  networkId: string;
  vpcId: string | null;
  routeTableId: string | null;
}

/** Of a subnet `s` in its network `n` and its zone `z`. */
export const servedColumns = `s.cidr::text AS cidr, host(s.gateway) AS gateway, s.dhcp, s."leaseSeconds", s.family, s."ipv6Mode", s."ntpServers", s."searchDomains",
          s."hostRoutes", s."dnsServers", z."dnsServers" AS "zoneServers",
          coalesce(n."dnsDomain", z."domainName") AS domain, s."networkId", s."vpcId", s."routeTableId"`;

export const servedIn = written<Served, { subnetId: string }>(
  `SELECT ${servedColumns}
   FROM "subnet" s JOIN "network" n ON n.id = s."networkId" JOIN "zone" z ON z.id = n."zoneId" WHERE s.id = $subnetId`,
);

/** Interfaces that go with their instance. One made alone is only let go of, with what leads to it. */
export const portsGoingWith = statement((p: Values<{ instanceId: string }>) =>
  from
    .selectFrom('networkInterface')
    .select('id')
    .where('instanceId', '=', p.instanceId)
    .where('alone', '=', false)
    .where('deletedAt', 'is', null),
);
