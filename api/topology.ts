/** A VPC as a graph, of what its caller may see: each kind is asked for as its list would be. */
import type { Row } from '../acceptance/change.ts';
import { mayAsk } from '../acceptance/visible.ts';
import { kindOf } from '../model/kinds.ts';
import { topologyPageSize } from '../model/network/topology.ts';
import type { Uplink } from '../model/network/vpc.ts';
import { inOneSnapshot, search } from './lists.ts';
import { send } from './request.ts';
import type { Viewing } from './views.ts';

interface Node {
  kind: string;
  id: string;
  name: string | null;
  state: string | null;
  addresses: string[];
  detail: string | null;
}

interface Edge {
  from: string;
  to: string;
  as: 'wayOut' | 'holds' | 'partOf' | 'leadsTo';
}

interface Part {
  /** Which of the kind are in the VPC. */
  filter(vpcId: string): string;
  addresses(row: Row): unknown[];
  detail?(row: Row): string;
  edges(row: Row): (Omit<Edge, 'from' | 'to'> & { from: unknown; to: unknown })[];
}

const inVpc = (vpcId: string): string => `vpcId = "${vpcId}"`;
const onNetworkOfVpc = (vpcId: string): string => `network.vpcId = "${vpcId}"`;

interface Span {
  from: number;
  to?: number;
}
const span = ({ from, to = from }: Span): string => (from === to ? `${from}` : `${from}–${to}`);

const parts: Readonly<Record<string, Part>> = {
  network: {
    filter: inVpc,
    addresses: () => [],
    edges: ({ id, vpcId }) => [{ from: vpcId, to: id, as: 'holds' }],
  },
  subnet: {
    filter: onNetworkOfVpc,
    addresses: ({ cidr }) => [cidr],
    edges: ({ id, networkId }) => [{ from: networkId, to: id, as: 'holds' }],
  },
  networkInterface: {
    filter: onNetworkOfVpc,
    addresses: ({ address, address6, secondaryAddresses }) => [address, address6, ...(secondaryAddresses as unknown[])],
    edges: ({ id, networkId, subnetId, subnet6Id, instanceId }) => [
      { from: subnetId ?? subnet6Id ?? networkId, to: id, as: 'holds' },
      { from: id, to: instanceId, as: 'partOf' },
    ],
  },
  instance: {
    filter: (vpcId) => `networkInterfaces:(network.vpcId = "${vpcId}")`,
    addresses: () => [],
    edges: () => [],
  },
  floatingIp: {
    filter: inVpc,
    addresses: ({ address }) => [address],
    edges: ({ id, networkId, networkInterfaceId }) => [
      { from: networkId, to: id, as: 'holds' },
      { from: id, to: networkInterfaceId, as: 'leadsTo' },
    ],
  },
  portForward: {
    filter: inVpc,
    addresses: () => [],
    detail: ({ protocol, publicPorts, targetPorts }) =>
      `${String(protocol)} ${span(publicPorts as Span)} → ${span(targetPorts as Span)}`,
    edges: ({ id, floatingIpId, networkInterfaceId }) => [
      { from: floatingIpId, to: id, as: 'holds' },
      { from: id, to: networkInterfaceId, as: 'leadsTo' },
    ],
  },
  loadBalancer: {
    filter: inVpc,
    addresses: ({ address }) => [address],
    edges: ({ id, vpcId, subnetId }) => [{ from: subnetId ?? vpcId, to: id, as: 'holds' }],
  },
  listener: {
    filter: (vpcId) => `loadBalancer.vpcId = "${vpcId}"`,
    addresses: () => [],
    detail: ({ protocol, ports }) => `${String(protocol)} ${span(ports as Span)}`,
    edges: ({ id, loadBalancerId, targetGroupId }) => [
      { from: loadBalancerId, to: id, as: 'holds' },
      { from: id, to: targetGroupId, as: 'leadsTo' },
    ],
  },
  targetGroup: {
    filter: inVpc,
    addresses: () => [],
    detail: ({ name }) => String(name),
    edges: ({ id, vpcId, networkInterfaceIds }) => [
      { from: vpcId, to: id, as: 'holds' },
      ...(networkInterfaceIds as string[]).map((nic): Omit<Edge, 'from' | 'to'> & { from: unknown; to: unknown } => ({
        from: id,
        to: nic,
        as: 'leadsTo',
      })),
    ],
  },
  routeTable: {
    filter: inVpc,
    addresses: () => [],
    edges: ({ id, vpcId }) => [{ from: vpcId, to: id, as: 'holds' }],
  },
};

const text = (value: unknown): string | null => (typeof value === 'string' ? value : null);

const nodeOf = (kind: string, row: Row, addresses: unknown[], detail: string | null = null): Node => ({
  kind,
  id: row.id,
  name: text(row.name),
  state: text(row.state),
  addresses: addresses.filter((address) => typeof address === 'string'),
  detail,
});

export async function topology({ api, ctx, row: vpc }: Viewing): Promise<void> {
  const { caller } = ctx.state;
  const outside = vpc.uplinkNetworkIds as string[];
  const wanted = Object.entries(parts)
    .filter(([name]) => mayAsk(caller, kindOf(name), 'list'))
    .map(([name, part]) => ({
      name,
      kind: kindOf(name),
      raw: { filter: part.filter(vpc.id), pageSize: topologyPageSize },
    }));
  if (outside.length > 0 && mayAsk(caller, kindOf('network'), 'list')) {
    const filter = outside.map((id) => `id = "${id}"`).join(' OR ');
    wanted.push({ name: 'outside', kind: kindOf('network'), raw: { filter, pageSize: topologyPageSize } });
  }
  const pages = await search(api, caller, (on) => inOneSnapshot(on, caller, wanted));
  const nodes = [nodeOf('vpc', vpc, vpc.cidrs as string[])];
  const edges: ReturnType<Part['edges']> = (vpc.uplinks as Uplink[]).map(({ networkId }) => ({
    from: vpc.id,
    to: networkId,
    as: 'wayOut',
  }));
  let complete = true;
  for (const { name, kind } of wanted) {
    const { items, nextPageToken } = JSON.parse(pages[name] ?? '') as { items: Row[]; nextPageToken: string | null };
    complete &&= nextPageToken === null;
    const part = parts[name];
    for (const row of items) {
      nodes.push(nodeOf(kind.name, row, part?.addresses(row) ?? [], part?.detail?.(row)));
      edges.push(...(part?.edges(row) ?? []));
    }
  }
  const told = new Set<unknown>(nodes.map(({ id }) => id));
  send(
    ctx,
    200,
    JSON.stringify({ nodes, edges: edges.filter(({ from, to }) => told.has(from) && told.has(to)), complete }),
  );
}
