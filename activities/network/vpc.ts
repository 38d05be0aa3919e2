import { freeAddress } from '../../database/addresses.ts';
import type { Transaction } from '../../database/database.ts';
import {
  chooseGateways,
  lockVpc,
  partsOfVpc,
  redundancyOf,
  subnetOutside,
  takePublicAddress,
  userOfUplink,
  type VpcRecord,
  vpcOf,
  writeCidrs,
  writeGateways,
  writeType,
  writeUplinks,
} from '../../database/vpcs.ts';
import { type Uplink, uplinksMax } from '../../model/network/vpc.ts';
import { refuse } from '../failure.ts';
import { asHolder } from '../holder.ts';
import { type StepContext, step } from '../step.ts';
import type { World } from '../world.ts';
import { absent, map, mapOf, type OvsdbOperation, present, rowTags, set, taggedWith } from './northbound.ts';
import { type AtRouter, operationsAt, removeAt, routerName, uplinkMac, writeAt } from './router.ts';

export const uplinkName = (uplinkId: string): string => `uplink-${uplinkId}`;
export const uplinkPortName = (uplinkId: string): string => `uplink-port-${uplinkId}`;

/** Lost packets until the second gateway host takes over follow from these: three intervals. OVN's own are a second each. */
const bfd = { 'bfd-min-rx': '200', 'bfd-min-tx': '200', 'bfd-mult': '3' };

/** The columns of a router that its record decides. */
export const routerRow = (vpcId: string) => ({
  name: routerName(vpcId),
  // Routers that share a network outside would else each keep an entry for each other one.
  options: map({ always_learn_from_arp_request: 'false', dynamic_neigh_routers: 'true' }),
});

/**
 * What an uplink comes to. What comes in by it and is for no address that is translated is dropped: who is outside, another VPC too, could else send to
 * a private address by way of the router's own. Only what is for such an address has been tracked by the time that routes are looked up.
 */
export function uplinkAt(vpc: VpcRecord, uplink: Uplink): AtRouter {
  const name = uplinkName(uplink.id);
  return {
    vpcId: vpc.id,
    kind: 'vpc',
    id: vpc.id,
    item: uplink.id,
    ports: [
      {
        name,
        switchPort: uplinkPortName(uplink.id),
        networkId: uplink.networkId,
        row: { mac: uplinkMac(uplink.id), networks: `${uplink.address}/${uplink.prefixLength}` },
        switchOptions: { 'nat-addresses': 'router' },
        chassis: vpc.gatewayHostIds,
        // What is for an address inside would else be tracked, and led on, where that is a balancer's.
        acls: [
          {
            direction: 'to-lport',
            priority: 1000,
            match: `outport == "${uplinkPortName(uplink.id)}" && ip4.dst == {${vpc.cidrs.join(', ')}}`,
            action: 'drop',
          },
        ],
      },
    ],
    rows: {
      nat: uplink.snat
        ? vpc.cidrs.map((cidr) => ({ type: 'snat', external_ip: uplink.address, logical_ip: cidr }))
        : [],
      static_routes: uplink.isDefault
        ? [{ ip_prefix: '0.0.0.0/0', nexthop: uplink.gateway, output_port: name, route_table: '' }]
        : [],
      policies: [
        // What the router answers itself, to a ping say, goes out as it came in.
        {
          priority: 1100,
          match: `inport == "${name}" && outport == "${name}" && ip4.src == ${uplink.address}`,
          action: 'allow',
        },
        { priority: 1000, match: `inport == "${name}" && ip && !ct.trk`, action: 'drop' },
      ],
    },
  };
}

/** Writes the router, and its uplinks, in one transaction; what others have put there stays. */
async function write(world: World, vpc: VpcRecord): Promise<void> {
  const where = taggedWith('vpc', vpc.id);
  const table = 'Logical_Router';
  const [routers, global] = await world.northbound.transact(`look for VPC ${vpc.id}`, [
    { op: 'select', table, where, columns: ['_uuid'] },
    { op: 'select', table: 'NB_Global', where: [], columns: ['options'] },
  ]);
  const options = mapOf(global?.rows?.[0]?.options);
  const isSet = Object.entries(bfd).every(([key, value]) => options[key] === value);
  const uplinks: OvsdbOperation[] = [];
  for (const [index, uplink] of vpc.uplinks.entries())
    uplinks.push(...(await operationsAt(world, uplinkAt(vpc, uplink), `uplink${index}`)));
  await world.northbound.transact(`write VPC ${vpc.id}`, [
    ...((routers?.rows?.length ?? 0) > 0
      ? [
          present(table, where, `the router of VPC ${vpc.id} has gone from OVN meanwhile`),
          { op: 'update' as const, table, where, row: routerRow(vpc.id) },
        ]
      : [
          absent(table, where),
          { op: 'insert' as const, table, row: { ...routerRow(vpc.id), external_ids: rowTags('vpc', vpc.id) } },
        ]),
    ...uplinks,
    ...(isSet
      ? []
      : [
          {
            op: 'mutate' as const,
            table: 'NB_Global',
            where: [],
            mutations: [
              ['options', 'delete', set(Object.keys(bfd))],
              ['options', 'insert', map(bfd)],
            ] as [string, string, unknown][],
          },
        ]),
  ]);
}

async function remove(world: World, vpc: VpcRecord): Promise<void> {
  for (const uplink of vpc.uplinks) await removeAt(world, uplinkAt(vpc, uplink));
  await world.northbound.transact(`remove VPC ${vpc.id}`, [
    { op: 'delete', table: 'Logical_Router', where: taggedWith('vpc', vpc.id) },
  ]);
}

interface VpcRef {
  vpcId: string;
}
interface OfType {
  routerTypeId: string | null;
  hostIds: string[];
}
interface Types {
  before: OfType;
  after: OfType;
}
interface UplinkRef extends VpcRef {
  uplinkId: string;
}
interface NewCidrs extends VpcRef {
  cidrs: string[];
  before: string[];
}
interface Wanted {
  networkId: string;
  address?: string | null;
  snat: boolean;
  isDefault: boolean;
}

export const vpcs = (world: World) => {
  const { database } = world;
  const { connections } = database;

  async function find(vpcId: string): Promise<VpcRecord> {
    const [vpc] = await vpcOf(connections, { vpcId });
    if (!vpc) throw refuse('NOT_FOUND', `VPC ${vpcId} is gone`);
    return vpc;
  }
  /** In the name of the operation that holds it. */
  const holding = <T>(
    vpcId: string,
    context: StepContext,
    body: (tx: Transaction, vpc: VpcRecord) => Promise<T>,
  ): Promise<T> =>
    asHolder(database, context, async (tx) => {
      const [vpc] = await lockVpc(tx, { vpcId });
      if (!vpc) throw refuse('NOT_FOUND', `VPC ${vpcId} is gone`);
      return body(tx, vpc);
    });
  async function record(tx: Transaction, vpcId: string, uplinks: Uplink[]): Promise<void> {
    await writeUplinks(tx, {
      vpcId,
      uplinks: JSON.stringify(uplinks),
      networkIds: [...new Set(uplinks.map(({ networkId }) => networkId))],
      subnetIds: [...new Set(uplinks.map(({ subnetId }) => subnetId))],
      publicAddress: uplinks.find(({ isDefault, snat }) => isDefault && snat)?.address ?? null,
    });
  }
  const gatewaysFor = (vpc: VpcRecord, networkIds: string[]): Promise<string[]> =>
    chooseGateways(connections, {
      zoneId: vpc.zoneId,
      networkIds,
      count: vpc.redundant ? 2 : 1,
      present: vpc.gatewayHostIds,
    });
  const networksOf = ({ uplinks }: VpcRecord): string[] => uplinks.map(({ networkId }) => networkId);
  const uplinkIn = (vpc: VpcRecord, uplinkId: string): Uplink => {
    const uplink = vpc.uplinks.find(({ id }) => id === uplinkId);
    if (!uplink) throw refuse('NOT_FOUND', `VPC ${vpc.id} has no uplink ${uplinkId}`);
    return uplink;
  };
  async function order(vpcId: string, hostIds: string[]): Promise<void> {
    const vpc = { ...(await find(vpcId)), gatewayHostIds: hostIds };
    await write(world, vpc);
  }
  async function replaceCidrs(vpcId: string, cidrs: string[]): Promise<void> {
    const vpc = { ...(await find(vpcId)), cidrs };
    for (const uplink of vpc.uplinks) await writeAt(world, uplinkAt(vpc, uplink));
  }

  return {
    /** Two hosts at the wires of its uplinks, in two pods where there are two. */
    chooseGateways: step({
      system: 'placement',
      async do({ vpcId }: VpcRef, context) {
        await holding(vpcId, context, async (tx, vpc) => {
          await writeGateways(tx, { vpcId, hostIds: await gatewaysFor(vpc, networksOf(vpc)) });
        });
      },
      undoText: 'none',
      async undo({ vpcId }, context) {
        await holding(vpcId, context, (tx) => writeGateways(tx, { vpcId, hostIds: [] }));
      },
    }),

    /** Router, ports outside, gateway hosts, translation, default route and what keeps others out: there at once, or not at all. */
    make: step({
      system: 'ovn',
      do: async ({ vpcId }: VpcRef) => write(world, await find(vpcId)),
      undoText: 'delete router',
      undo: async ({ vpcId }) => remove(world, await find(vpcId)),
    }),

    planCidrs: step({
      system: 'record',
      do: async ({ vpcId }: VpcRef): Promise<{ before: string[] }> => ({ before: (await find(vpcId)).cidrs }),
    }),

    /** All its subnets lie in the new ranges, and so will those that are accepted from now on. */
    recordCidrs: step({
      system: 'record',
      async do({ vpcId, cidrs }: NewCidrs, context) {
        await holding(vpcId, context, async (tx) => {
          const [outside] = await subnetOutside(tx, { vpcId, cidrs: JSON.stringify(cidrs) });
          if (outside)
            throw refuse('HAS_DEPENDENTS', `subnet ${outside.id} would lie in none of the ranges`, {
              blockers: [{ kind: 'subnet', id: outside.id }],
            });
          await writeCidrs(tx, { vpcId, cidrs: JSON.stringify(cidrs) });
        });
      },
      undoText: 'ranges before',
      async undo({ vpcId, before }, context) {
        await holding(vpcId, context, (tx) => writeCidrs(tx, { vpcId, cidrs: JSON.stringify(before) }));
      },
    }),

    replaceCidrs: step({
      system: 'ovn',
      do: ({ vpcId, cidrs }: NewCidrs) => replaceCidrs(vpcId, cidrs),
      undoText: 'translate the ranges before',
      undo: ({ vpcId, before }) => replaceCidrs(vpcId, before),
    }),

    /** A public address for the uplink, and hosts that are at its wire. */
    takeUplink: step({
      system: 'record',
      async do({ vpcId, uplinkId, networkId, address = null, snat, isDefault }: UplinkRef & Wanted, context) {
        await holding(vpcId, context, async (tx, vpc) => {
          if (vpc.uplinks.some(({ id }) => id === uplinkId)) return;
          if (vpc.uplinks.length >= uplinksMax)
            throw refuse('PRECONDITION_FAILED', `VPC ${vpcId} has ${uplinksMax} uplinks already`);
          if (vpc.uplinks.some((one) => one.networkId === networkId))
            throw refuse('ALREADY_ATTACHED', `VPC ${vpcId} has an uplink to network ${networkId} already`);
          if (isDefault && vpc.uplinks.some((one) => one.isDefault))
            throw refuse('PRECONDITION_FAILED', `VPC ${vpcId} has a default uplink already`);
          const hostIds = await gatewaysFor(vpc, [...networksOf(vpc), networkId]);
          if (vpc.gatewayHostIds.some((id) => !hostIds.includes(id)))
            throw refuse('NO_CAPACITY', 'the gateway hosts of the VPC are not at the wire of the network');
          const taken = await takePublicAddress(tx, {
            networkId,
            ownerId: uplinkId,
            wanted: address,
            field: 'address',
          });
          await writeGateways(tx, { vpcId, hostIds });
          await record(tx, vpcId, [...vpc.uplinks, { id: uplinkId, networkId, ...taken, snat, isDefault }]);
        });
      },
      undoText: 'free address',
      async undo({ vpcId, uplinkId }, context) {
        await holding(vpcId, context, async (tx, vpc) => {
          const left = vpc.uplinks.filter(({ id }) => id !== uplinkId);
          if (left.length === vpc.uplinks.length) return;
          await record(tx, vpcId, left);
          if (left.length === 0) await writeGateways(tx, { vpcId, hostIds: [] });
          await freeAddress(tx, uplinkId);
        });
      },
    }),

    connectUplink: step({
      system: 'ovn',
      async do({ vpcId, uplinkId }: UplinkRef) {
        const vpc = await find(vpcId);
        await writeAt(world, uplinkAt(vpc, uplinkIn(vpc, uplinkId)));
      },
      undoText: 'delete its rows',
      async undo({ vpcId, uplinkId }) {
        const vpc = await find(vpcId);
        const uplink = vpc.uplinks.find(({ id }) => id === uplinkId);
        if (uplink) await removeAt(world, uplinkAt(vpc, uplink));
      },
    }),

    /** Nothing leads through it, and nothing has an address of its network there. */
    proveUplinkUnused: step({
      system: 'record',
      async do({ vpcId, uplinkId }: UplinkRef) {
        const { subnetId, networkId } = uplinkIn(await find(vpcId), uplinkId);
        const [user] = await userOfUplink(connections, { vpcId, subnetId, networkId });
        if (user)
          throw refuse('HAS_DEPENDENTS', `${user.kind} ${user.id} leads through uplink ${uplinkId}`, {
            blockers: [user],
          });
      },
    }),

    disconnectUplink: step({
      system: 'ovn',
      async do({ vpcId, uplinkId }: UplinkRef) {
        const vpc = await find(vpcId);
        await removeAt(world, uplinkAt(vpc, uplinkIn(vpc, uplinkId)));
      },
      undoText: 'write its rows again',
      async undo({ vpcId, uplinkId }) {
        const vpc = await find(vpcId);
        await writeAt(world, uplinkAt(vpc, uplinkIn(vpc, uplinkId)));
      },
    }),

    dropUplink: step({
      system: 'record',
      async do({ vpcId, uplinkId }: UplinkRef, context) {
        await holding(vpcId, context, async (tx, vpc) => {
          const left = vpc.uplinks.filter(({ id }) => id !== uplinkId);
          await record(tx, vpcId, left);
          if (left.length === 0) await writeGateways(tx, { vpcId, hostIds: [] });
          await freeAddress(tx, uplinkId);
        });
      },
    }),

    /** Of which type it is, and of which it shall be, with the hosts that carry it. */
    planType: step({
      system: 'placement',
      async do({ vpcId, routerTypeId = null }: VpcRef & { routerTypeId?: string | null }): Promise<{ types: Types }> {
        const vpc = await find(vpcId);
        const [type] = routerTypeId ? await redundancyOf(connections, { routerTypeId }) : [{ redundant: true }];
        if (!type) throw refuse('NOT_FOUND', `router type ${routerTypeId} is gone`);
        const count = type.redundant ? 2 : 1;
        const hostIds = await gatewaysFor({ ...vpc, redundant: type.redundant }, networksOf(vpc));
        return {
          types: {
            before: { routerTypeId: vpc.routerTypeId, hostIds: vpc.gatewayHostIds },
            after: { routerTypeId, hostIds: hostIds.slice(0, count) },
          },
        };
      },
    }),

    recordType: step({
      system: 'record',
      async do({ vpcId, types }: VpcRef & { types: Types }, context) {
        await holding(vpcId, context, (tx) => writeType(tx, { vpcId, ...types.after }));
      },
      undoText: 'type before',
      async undo({ vpcId, types }, context) {
        await holding(vpcId, context, (tx) => writeType(tx, { vpcId, ...types.before }));
      },
    }),

    /** Which hosts carry it, and which would then. */
    planFailOver: step({
      system: 'placement',
      async do({ vpcId, hostId = null }: VpcRef & { hostId?: string | null }): Promise<{
        before: string[];
        after: string[];
      }> {
        const vpc = await find(vpcId);
        const before = vpc.gatewayHostIds;
        const [first, ...others] = before;
        if (!first) throw refuse('PRECONDITION_FAILED', `VPC ${vpcId} has no uplink, and so no gateway host`);
        const able = await chooseGateways(connections, {
          zoneId: vpc.zoneId,
          networkIds: networksOf(vpc),
          count: 2,
          present: hostId ? [hostId] : others,
        });
        const next = hostId ?? able[0];
        if (!next || !able.includes(next) || next === first)
          throw refuse('NO_CAPACITY', `no other host of the zone can carry VPC ${vpcId} now`);
        const rest = [first, ...others].filter((id) => id !== next);
        return { before, after: [next, ...rest].slice(0, vpc.redundant ? 2 : 1) };
      },
    }),

    /** From now on the first of them carries what goes out; connections go on. */
    orderGateways: step({
      system: 'ovn',
      do: ({ vpcId, after }: VpcRef & { before: string[]; after: string[] }) => order(vpcId, after),
      undoText: 'order before',
      undo: ({ vpcId, before }) => order(vpcId, before),
    }),

    recordGateways: step({
      system: 'record',
      async do({ vpcId, after }: VpcRef & { before: string[]; after: string[] }, context) {
        await holding(vpcId, context, (tx) => writeGateways(tx, { vpcId, hostIds: after }));
      },
      undoText: 'order before',
      async undo({ vpcId, before }, context) {
        await holding(vpcId, context, (tx) => writeGateways(tx, { vpcId, hostIds: before }));
      },
    }),

    /** What is at its router, as the records say. */
    contents: step({
      system: 'record',
      async do({ vpcId }: VpcRef): Promise<{
        subnetIds: string[];
        routeTableIds: string[];
        /** Runs of before have not been told of these. */
        floatingIpIds?: string[];
        portForwardIds?: string[];
        loadBalancerIds?: string[];
        listenerIds?: string[];
      }> {
        const parts = await partsOfVpc(connections, { vpcId });
        const of = (kind: string): string[] => parts.flatMap((part) => (part.kind === kind ? [part.id] : []));
        return {
          subnetIds: of('subnet'),
          routeTableIds: of('routeTable'),
          floatingIpIds: of('floatingIp'),
          portForwardIds: of('portForward'),
          loadBalancerIds: of('loadBalancer'),
          listenerIds: of('listener'),
        };
      },
    }),

    /** Hosts that are gone, or have failed, carry it no longer. */
    replaceGateways: step({
      system: 'placement',
      async do({ vpcId }: VpcRef, context) {
        await holding(vpcId, context, async (tx, vpc) => {
          await writeGateways(tx, { vpcId, hostIds: await gatewaysFor(vpc, networksOf(vpc)) });
        });
      },
    }),

    remove: step({ system: 'ovn', do: async ({ vpcId }: VpcRef) => remove(world, await find(vpcId)) }),
  };
};
