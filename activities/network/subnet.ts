import { type Served, servedIn } from '../../database/networks.ts';
import { refuse } from '../failure.ts';
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

/** The columns of a subnet's DHCP options that its record decides. */
export function servedRow(subnetId: string, subnet: Served): { cidr: string; options: unknown } {
  const dns = subnet.dnsServers.length > 0 ? subnet.dnsServers : subnet.zoneServers;
  return {
    cidr: subnet.cidr,
    options: map({
      server_id: subnet.gateway ?? '',
      server_mac: serverMac(subnetId),
      router: subnet.gateway ?? '',
      lease_time: String(subnet.leaseSeconds),
      mtu: guestMtu,
      ...(dns.length > 0 ? { dns_server: `{${dns.join(', ')}}` } : {}),
      // OVN takes a text in quotation marks.
      ...(subnet.domain ? { domain_name: `"${subnet.domain}"` } : {}),
    }),
  };
}

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
        },
      },
    ],
  };
}

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
    async do({ subnetId }: { subnetId: string }) {
      const [subnet] = await servedIn(world.database.connections, { subnetId });
      if (!subnet) throw refuse('NOT_FOUND', `subnet ${subnetId} is gone`);
      const at = subnetAtRouter(subnetId, subnet);
      if (at) await writeAt(world, at);
      const [found] = await world.northbound.transact(`look for subnet ${subnetId}`, [
        { op: 'select', table: 'DHCP_Options', where: taggedWith('subnet', subnetId), columns: ['_uuid'] },
      ]);
      if (!subnet.dhcp) return;
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
    },
    undoText: 'delete DHCP options',
    undo: ({ subnetId }) => remove(world, subnetId),
  }),
  remove: step({ system: 'ovn', do: ({ subnetId }: { subnetId: string }) => remove(world, subnetId) }),
});
