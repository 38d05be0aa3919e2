import { takeAddress } from '../../database/addresses.ts';
import { forwardWith, lockFloatingIp } from '../../database/floatingIps.ts';
import {
  interfacesBehind,
  listenerAt,
  listenerWithin,
  lockBalancer,
  reachOf,
  takeProbes,
} from '../../database/loadBalancers.ts';
import { kindOf } from '../../model/kinds.ts';
import { carried, listenerPortsMax } from '../../model/network/listener.ts';
import type { Ports } from '../../model/network/portForward.ts';
import { contradictionsIn, healthCheckDefaults, type Target } from '../../model/network/targetGroup.ts';
import { Problem } from '../../runtime/problem.ts';
import { placeOf } from '../caller.ts';
import type { Accepting, Hold, Hooks, Reference, Row } from '../change.ts';
import { invalid, refuseAll } from '../violation.ts';
import { covers } from './cidr.ts';
import { refusePublic, refuseSix, refuseUnusable } from './networkInterface.ts';

/** @throws Problem NOT_SUPPORTED where the router type of the VPC has no load balancers */
async function offered(
  { tx }: Accepting,
  vpcId: string,
  networkId: string | null = null,
): Promise<{ reached: boolean; cidrs: string[] }> {
  const [reach] = await reachOf(tx, { vpcId, networkId });
  if (reach?.services && !reach.services.includes('loadBalancer'))
    throw new Problem('NOT_SUPPORTED', `the router type of VPC ${vpcId} has no load balancers`, {
      violations: [{ field: 'vpcId', message: 'is of a router type that does not offer it' }],
    });
  return { reached: reach?.reached === true, cidrs: reach?.cidrs ?? [] };
}

const leadsAsAWhole = (floatingIpId: string): Problem =>
  new Problem('ALREADY_ATTACHED', `floating IP ${floatingIpId} leads to an interface as a whole`, {
    violations: [{ field: 'floatingIpId', message: 'leads to an interface as a whole' }],
  });

async function acceptPublic(accepting: Accepting, floatingIpId: string): Promise<void> {
  const { tx, row } = accepting;
  if (row.subnetId) throw invalid('subnetId', 'is for internal load balancers');
  if (row.address) throw invalid('address', 'is for internal load balancers: a public one has that of its floating IP');
  const [floating] = await lockFloatingIp(tx, { floatingIpId });
  if (!floating) throw invalid('floatingIpId', 'is gone');
  if (floating.networkInterfaceId) throw leadsAsAWhole(floatingIpId);
  const { reached } = await offered(accepting, String(row.vpcId), floating.networkId);
  if (!reached) throw invalid('vpcId', 'has no uplink to the network of the floating IP');
  row.address = floating.address;
}

async function acceptInternal(accepting: Accepting, subnetId: string): Promise<void> {
  const { tx, row, references } = accepting;
  if (row.floatingIpId) throw invalid('floatingIpId', 'is for public load balancers');
  await offered(accepting, String(row.vpcId));
  const subnet = references.get(`subnet/${subnetId}`);
  if (subnet?.vpcId !== row.vpcId) throw invalid('subnetId', 'is in another VPC, or in none');
  refusePublic(subnet, 'subnetId');
  refuseSix(subnet, 'subnetId');
  const wanted = (row.address as string | null | undefined) ?? null;
  refuseUnusable(subnet, wanted, 'address');
  row.address = await takeAddress(tx, subnetId, row.id, wanted, 'address');
}

const nothingWhole = (floatingIpId: string): Hold => ({
  kind: 'floatingIp',
  id: floatingIpId,
  mode: 'X',
  conditions: [
    {
      field: 'networkInterfaceId',
      is: null,
      code: 'ALREADY_ATTACHED',
      message: `floating IP ${floatingIpId} leads to an interface as a whole`,
    },
  ],
});

export const loadBalancerHooks: Hooks = {
  'loadBalancer.create': {
    // Its uplinks stay, and no repair writes the router, as long as it is on its way.
    holds: ({ input }) => [
      { kind: 'vpc', id: String(input.vpcId), mode: 'X', from: ['ready'] },
      ...(typeof input.floatingIpId === 'string' ? [nothingWhole(input.floatingIpId)] : []),
    ],
    async accept(accepting) {
      const { row } = accepting;
      const { floatingIpId, subnetId } = row;
      if (row.scheme === 'public') {
        if (typeof floatingIpId !== 'string') throw invalid('floatingIpId', 'is needed of a public load balancer');
        return acceptPublic(accepting, floatingIpId);
      }
      if (typeof subnetId !== 'string') throw invalid('subnetId', 'is needed of an internal load balancer');
      return acceptInternal(accepting, subnetId);
    },
  },
};

/** Nobody else changes the group, and with it the rows of its listeners. */
const heldGroup = (id: unknown): Hold[] =>
  typeof id === 'string' ? [{ kind: 'targetGroup', id, mode: 'X', from: ['ready'] }] : [];

/** @throws Problem INVALID_ARGUMENT for a group that can not be sent to from there */
function refuseGroup(
  group: Row | undefined,
  { vpcId, protocol, ports }: { vpcId: unknown; protocol: unknown; ports: Ports },
): void {
  if (group?.vpcId !== vpcId) throw invalid('targetGroupId', 'is of another VPC than the load balancer');
  if (group?.protocol !== protocol) throw invalid('targetGroupId', `is not of ${String(protocol)}`);
  const { from, to = from } = ports;
  if (to > from && typeof group?.port === 'number')
    throw invalid('ports', 'are several: the target group must name no port, so that each is asked for itself');
}

const portsTaken = (who: string): Problem =>
  new Problem('ADDRESS_IN_USE', `${who} has some of these ports`, {
    violations: [{ field: 'ports', message: 'are in use' }],
  });

async function listen({ tx, row, references }: Accepting): Promise<void> {
  const protocol = String(row.protocol);
  if (!(carried as readonly string[]).includes(protocol))
    throw new Problem('NOT_SUPPORTED', `listeners of ${protocol} are not there yet: nothing looks into connections`, {
      violations: [{ field: 'protocol', message: 'is not there yet; tcp and udp are' }],
    });
  const ports = row.ports as Ports;
  const { from: first, to: last = first } = ports;
  if (last < first) throw invalid('ports.to', `must be at least from, which is ${first}`);
  if (last - first + 1 > listenerPortsMax) throw invalid('ports', `are more than ${listenerPortsMax}`);
  const loadBalancerId = String(row.loadBalancerId);
  const [balancer] = await lockBalancer(tx, { loadBalancerId });
  refuseGroup(references.get(`targetGroup/${String(row.targetGroupId)}`), { vpcId: balancer?.vpcId, protocol, ports });
  const [other] = await listenerWithin(tx, { loadBalancerId, protocol, first, last });
  if (other) throw portsTaken(`listener ${other.id}`);
  const floatingIpId = balancer?.floatingIpId;
  if (!floatingIpId) return;
  await lockFloatingIp(tx, { floatingIpId });
  const [forward] = await forwardWith(tx, { floatingIpId, protocol, first, last });
  if (forward) throw portsTaken(`port forward ${forward.id}`);
}

/** A listener has no ports of a floating IP that somebody else has. @throws Problem ADDRESS_IN_USE */
export async function refuseListenedPorts(
  { tx }: Accepting,
  at: { floatingIpId: string; protocol: string; first: number; last: number },
  field: string,
): Promise<void> {
  const [listener] = await listenerAt(tx, at);
  if (listener)
    throw new Problem('ADDRESS_IN_USE', `listener ${listener.id} has some of these ports`, {
      violations: [{ field, message: 'are in use' }],
    });
}

export const listenerHooks: Hooks = {
  'listener.create': {
    permittedAt: (row, loaded) =>
      placeOf(
        kindOf('loadBalancer'),
        loaded.get(`loadBalancer/${String(row.loadBalancerId)}`) ?? { id: String(row.loadBalancerId) },
      ),
    holds: ({ input }) => heldGroup(input.targetGroupId),
    accept: listen,
  },
  'listener.setOptions': {
    references: ({ targetGroupId: id }) =>
      typeof id === 'string' ? [{ kind: 'targetGroup', id, field: 'targetGroupId' }] : [],
    related: ({ row }) => [
      { kind: 'targetGroup', id: String(row.targetGroupId) },
      { kind: 'loadBalancer', id: String(row.loadBalancerId) },
    ],
    holds: ({ row, input }) => [
      ...heldGroup(row.targetGroupId),
      ...(input.targetGroupId === row.targetGroupId ? [] : heldGroup(input.targetGroupId)),
    ],
    conditions: ({ row }) => [
      {
        field: 'targetGroupId',
        is: String(row.targetGroupId),
        code: 'INVALID_STATE',
        message: `listener ${row.id} has come to another target group meanwhile`,
      },
    ],
    accept({ row, input, references, workflowInput }) {
      if (Object.keys(input).length === 0)
        throw invalid('targetGroupId', 'is needed, or enabled: there is nothing to set');
      const targetGroupId = String(input.targetGroupId ?? row.targetGroupId);
      refuseGroup(references.get(`targetGroup/${targetGroupId}`), {
        vpcId: references.get(`loadBalancer/${String(row.loadBalancerId)}`)?.vpcId,
        protocol: row.protocol,
        ports: row.ports as Ports,
      });
      Object.assign(workflowInput, { targetGroupId, enabled: input.enabled ?? row.enabled });
    },
  },
};

const targetsOf = (input: Record<string, unknown>): Target[] => (input.targets ?? []) as Target[];

/** What it sends to may be sent to by whoever says so. */
const named = (input: Record<string, unknown>): Reference[] =>
  targetsOf(input).flatMap(({ instanceId, networkInterfaceId }, index): Reference[] => [
    ...(instanceId ? [{ kind: 'instance', id: instanceId, field: `targets.${index}.instanceId` }] : []),
    ...(networkInterfaceId
      ? [
          {
            kind: 'networkInterface',
            id: networkInterfaceId,
            field: `targets.${index}.networkInterfaceId`,
            use: 'forward',
          },
        ]
      : []),
  ]);

/** Targets with the interface that each is reached by. @throws Problem INVALID_ARGUMENT */
async function meant(
  accepting: Accepting,
  { vpcId, port, targets }: { vpcId: string; port: number | null; targets: readonly Target[] },
): Promise<{ targets: Target[]; networkInterfaceIds: string[] }> {
  refuseAll(contradictionsIn(targets, port));
  const { cidrs } = await offered(accepting, vpcId);
  const behind = await interfacesBehind(accepting.tx, { vpcId, targets: JSON.stringify(targets) });
  const reached = targets.map(({ instanceId, networkInterfaceId, address, ...target }, index): Target => {
    const enabled = target.enabled ?? true;
    const at = { ...(target.port == null ? {} : { port: target.port }), enabled };
    if (address != null) {
      if (!cidrs.some((range) => covers(range, `${address}/32`)))
        throw invalid(`targets.${index}.address`, 'lies in no range of the VPC');
      return { address, ...at };
    }
    const id = behind[index]?.id;
    const field = instanceId == null ? 'networkInterfaceId' : 'instanceId';
    if (!id)
      throw invalid(
        `targets.${index}.${field}`,
        instanceId == null ? 'is not in the VPC' : 'has no interface in the VPC',
      );
    return { networkInterfaceId: id, ...at };
  });
  refuseAll(contradictionsIn(reached, port));
  return {
    targets: reached,
    networkInterfaceIds: reached.flatMap(({ networkInterfaceId: id }) => (id == null ? [] : [id])),
  };
}

const portOf = (row: Row): number | null => (typeof row.port === 'number' ? row.port : null);

export const targetGroupHooks: Hooks = {
  'targetGroup.create': {
    references: named,
    async accept(accepting) {
      const { tx, row, input } = accepting;
      const told = await meant(accepting, { vpcId: String(row.vpcId), port: portOf(row), targets: targetsOf(input) });
      Object.assign(row, told, {
        healthCheck: { ...healthCheckDefaults, ...((row.healthCheck as Record<string, number> | null) ?? {}) },
      });
      await takeProbes(tx, { targetGroupId: row.id, networkInterfaceIds: told.networkInterfaceIds });
    },
  },
  'targetGroup.setTargets': {
    references: named,
    async accept(accepting) {
      const { row, input, workflowInput } = accepting;
      const told = await meant(accepting, { vpcId: String(row.vpcId), port: portOf(row), targets: targetsOf(input) });
      workflowInput.targets = told.targets;
    },
  },
  'targetGroup.setOptions': {
    accept({ input }) {
      if (Object.keys(input).length === 0)
        throw invalid('algorithm', 'is needed, or healthCheck: there is nothing to set');
    },
  },
};
