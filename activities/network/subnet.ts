import { type Served, servedIn } from '../../database/networks.ts';
import { from, statement, type Values } from '../../database/statement.ts';
import { refuse } from '../failure.ts';
import { asHolder } from '../holder.ts';
import { step } from '../step.ts';
import type { World } from '../world.ts';
import { absent, map, present, rowTags, taggedWith } from './northbound.ts';
import { type AtRouter, removeAt, writeAt } from './router.ts';
import { routeTableName } from './routeTable.ts';

/** Guests see 1500 whatever the tunnel costs; the underlay carries the difference. */
const guestMtu = '1500';

/** A locally administered address that no interface gets: interfaces start with 02, this with 06. */
const serverMac = (subnetId: string): string =>
  `06:${subnetId
    .replaceAll('-', '')
    .slice(0, 10)
    .replace(/(..)(?=.)/g, '$1:')}`;

/** OVN takes a text in quotation marks, and a list in braces. */
const quoted = (text: string): string => `"${text}"`;
const list = (items: readonly string[]): string => `{${items.join(', ')}}`;

/** The columns of a subnet's DHCP options that its record decides. */
export function servedRow(subnetId: string, subnet: Served): { cidr: string; options: unknown } {
  const dns = (subnet.dnsServers.length > 0 ? subnet.dnsServers : subnet.zoneServers).filter(
    (server) => server.includes(':') === (subnet.family === 6),
  );
  const { cidr, searchDomains } = subnet;
  if (subnet.family === 6) {
    const domains = searchDomains.length > 0 ? searchDomains : subnet.domain ? [subnet.domain] : [];
    return {
      cidr,
      options: map({
        server_id: serverMac(subnetId),
        ...(dns.length > 0 ? { dns_server: list(dns) } : {}),
        ...(domains.length > 0 ? { domain_search: quoted(domains.join(',')) } : {}),
        ...(subnet.ipv6Mode === 'stateless' ? { dhcpv6_stateless: 'true' } : {}),
      }),
    };
  }
  // Who is told routes heeds no gateway beside them (RFC 3442): it is one of them.
  const routes = [
    ...subnet.hostRoutes,
    ...(subnet.gateway ? [{ cidr: '0.0.0.0/0', nextHop: subnet.gateway }] : []),
  ].map(({ cidr: to, nextHop }) => `${to},${nextHop}`);
  return {
    cidr,
    options: map({
      server_id: subnet.gateway ?? '',
      server_mac: serverMac(subnetId),
      router: subnet.gateway ?? '',
      lease_time: String(subnet.leaseSeconds),
      mtu: guestMtu,
      ...(dns.length > 0 ? { dns_server: list(dns) } : {}),
      ...(subnet.ntpServers.length > 0 ? { ntp_server: list(subnet.ntpServers) } : {}),
      ...(subnet.hostRoutes.length > 0 ? { classless_static_route: list(routes) } : {}),
      ...(subnet.domain ? { domain_name: quoted(subnet.domain) } : {}),
      ...(searchDomains.length > 0 ? { domain_search_list: quoted(searchDomains.join(',')) } : {}),
    }),
  };
}

/** Where else guests learn of name servers by DHCPv6. OVN tells of one alone here. */
const toldByRouter = ({ ipv6Mode, dnsServers, zoneServers, searchDomains, domain }: Served): Record<string, string> => {
  if (ipv6Mode !== 'slaac') return {};
  const [server] = (dnsServers.length > 0 ? dnsServers : zoneServers).filter((one) => one.includes(':'));
  const domains = searchDomains.length > 0 ? searchDomains : domain ? [domain] : [];
  return {
    ...(server ? { rdnss: server } : {}),
    ...(domains.length > 0 ? { dnssl: domains.join(',') } : {}),
  };
};

const addressModes: Readonly<Record<string, string>> = {
  slaac: 'slaac',
  stateless: 'dhcpv6_stateless',
  dhcpv6: 'dhcpv6_stateful',
};

/** What the router tells guests of a subnet of IPv6: whenever they ask, and by itself. */
export const advertised = (subnet: Served): Record<string, string> => ({
  address_mode: addressModes[subnet.ipv6Mode ?? ''] ?? 'slaac',
  send_periodic: 'true',
  mtu: guestMtu,
  ...toldByRouter(subnet),
});

export const routerPortName = (subnetId: string): string => `router-${subnetId}`;
export const routerSwitchPortName = (subnetId: string): string => `router-port-${subnetId}`;

/** The router's port in a subnet of a VPC, or null of one that is in none. */
export function subnetAtRouter(subnetId: string, subnet: Served): AtRouter | null {
  const { vpcId, networkId, cidr, gateway, routeTableId } = subnet;
  if (!vpcId) return null;
  return {
    vpcId,
    kind: 'subnet',
    id: subnetId,
    rows: {},
    ports: [
      {
        name: routerPortName(subnetId),
        switchPort: routerSwitchPortName(subnetId),
        networkId,
        row: {
          mac: serverMac(subnetId),
          networks: `${gateway ?? ''}/${cidr.split('/')[1] ?? ''}`,
          options: map(routeTableId ? { route_table: routeTableName(routeTableId) } : {}),
          ipv6_ra_configs: map(subnet.family === 6 ? advertised(subnet) : {}),
        },
      },
    ],
  };
}

/** Whether guests are told anything by DHCP. */
const isServed = ({ dhcp, ipv6Mode }: Served): boolean => dhcp && ipv6Mode !== 'slaac';

/** What DHCP is about to tell, in place of what the record says. */
export type SubnetOptions = {
  [Name in 'leaseSeconds' | 'dnsServers' | 'ntpServers' | 'searchDomains' | 'hostRoutes']?: Served[Name] | null;
};

async function write(world: World, subnetId: string, options: SubnetOptions = {}): Promise<void> {
  const [recorded] = await servedIn(world.database.connections, { subnetId });
  if (!recorded) throw refuse('NOT_FOUND', `subnet ${subnetId} is gone`);
  const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value != null));
  const subnet: Served = { ...recorded, ...given };
  const at = subnetAtRouter(subnetId, subnet);
  if (at) await writeAt(world, at);
  const [found] = await world.northbound.transact(`look for subnet ${subnetId}`, [
    { op: 'select', table: 'DHCP_Options', where: taggedWith('subnet', subnetId), columns: ['_uuid'] },
  ]);
  if (!isServed(subnet)) return;
  const row = { ...servedRow(subnetId, subnet), external_ids: rowTags('subnet', subnetId) };
  const where = taggedWith('subnet', subnetId);
  const table = 'DHCP_Options';
  await world.northbound.transact(
    `make subnet ${subnetId}`,
    (found?.rows?.length ?? 0) > 0
      ? [
          present(table, where, `the DHCP options of subnet ${subnetId} have gone from OVN meanwhile`),
          { op: 'update', table, where, row },
        ]
      : [absent(table, where), { op: 'insert', table, row }],
  );
}

const recordOptions = statement(
  (
    p: Values<{
      subnetId: string;
      leaseSeconds: number;
      dnsServers: string;
      ntpServers: string;
      searchDomains: string;
      hostRoutes: string;
    }>,
  ) =>
    from
      .updateTable('subnet')
      .set({
        leaseSeconds: p.leaseSeconds,
        dnsServers: p.dnsServers,
        ntpServers: p.ntpServers,
        searchDomains: p.searchDomains,
        hostRoutes: p.hostRoutes,
      })
      .where('id', '=', p.subnetId),
);

async function removeDhcp(world: World, subnetId: string): Promise<void> {
  await world.northbound.transact(`remove subnet ${subnetId}`, [
    { op: 'delete', table: 'DHCP_Options', where: taggedWith('subnet', subnetId) },
  ]);
}

async function remove(world: World, subnetId: string): Promise<void> {
  const [subnet] = await servedIn(world.database.connections, { subnetId });
  const at = subnet ? subnetAtRouter(subnetId, subnet) : null;
  if (at) await removeAt(world, at);
  await removeDhcp(world, subnetId);
}

export const subnets = (world: World) => ({
  /** OVN answers DHCP by itself from these options. In a VPC its router has a port there, which is the gateway. */
  make: step({
    system: 'ovn',
    do: ({ subnetId }: { subnetId: string }) => write(world, subnetId),
    undoText: 'delete DHCP options',
    undo: ({ subnetId }) => remove(world, subnetId),
  }),

  rewrite: step({
    system: 'ovn',
    do: ({ subnetId, options }: { subnetId: string; options: SubnetOptions }) => write(world, subnetId, options),
    undoText: 'old options',
    undo: ({ subnetId }) => write(world, subnetId),
  }),

  recordOptions: step({
    system: 'record',
    async do({ subnetId, options }: { subnetId: string; options: SubnetOptions }, context) {
      const recorded = await world.database.prisma.subnet.findUniqueOrThrow({ where: { id: subnetId } });
      const now = <Name extends keyof SubnetOptions>(name: Name): unknown => options[name] ?? recorded[name];
      await asHolder(world.database, context, (tx) =>
        recordOptions(tx, {
          subnetId,
          leaseSeconds: Number(now('leaseSeconds')),
          dnsServers: JSON.stringify(now('dnsServers')),
          ntpServers: JSON.stringify(now('ntpServers')),
          searchDomains: JSON.stringify(now('searchDomains')),
          hostRoutes: JSON.stringify(now('hostRoutes')),
        }),
      );
    },
  }),

  remove: step({ system: 'ovn', do: ({ subnetId }: { subnetId: string }) => remove(world, subnetId) }),
});
