import { destroyedStates, floatingIpOf, forwardWith, lockFloatingIp, targetOn } from '../../database/floatingIps.ts';
import { takePublicAddress } from '../../database/vpcs.ts';
import { kindOf } from '../../model/kinds.ts';
import { contradictionsIn, type Ports } from '../../model/network/portForward.ts';
import type { RouterService } from '../../model/network/routerType.ts';
import { Problem } from '../../runtime/problem.ts';
import { placeOf } from '../caller.ts';
import type { Accepting, Hold, Hooks, Reference, Scene } from '../change.ts';
import { invalid, refuseAll } from '../violation.ts';
import { refuseListenedPorts } from './loadBalancer.ts';

const interfaceOf = (input: Record<string, unknown>): Reference[] =>
  typeof input.networkInterfaceId === 'string'
    ? [{ kind: 'networkInterface', id: input.networkInterfaceId, field: 'networkInterfaceId' }]
    : [];
/** It stays while an address is led to it. */
const heldInterface = ({ input }: Scene): Hold[] =>
  interfaceOf(input).map(({ kind, id }) => ({ kind, id, mode: 'X', from: ['ready'] }));

/** Where an address of a network may lead. @throws Problem INVALID_ARGUMENT, NOT_SUPPORTED */
async function reach(
  { tx }: Accepting,
  networkInterfaceId: string,
  networkId: string,
  service: RouterService,
): Promise<{ fixedAddress: string; vpcId: string }> {
  const [target] = await targetOn(tx, { networkInterfaceId, networkId });
  const { fixedAddress, vpcId } = target ?? {};
  if (target?.instanceState && destroyedStates.has(target.instanceState))
    throw new Problem('INVALID_STATE', `the instance of network interface ${networkInterfaceId} is destroyed`, {
      violations: [{ field: 'networkInterfaceId', message: 'is of an instance that is destroyed' }],
    });
  if (!fixedAddress || !vpcId) throw invalid('networkInterfaceId', 'is in no VPC');
  if (!target?.reached)
    throw invalid('networkInterfaceId', 'is in a VPC without an uplink to the network of the address');
  if (target.services && !target.services.includes(service))
    throw new Problem('NOT_SUPPORTED', `the router type of VPC ${vpcId} has no ${service}`, {
      violations: [{ field: 'networkInterfaceId', message: 'is in a VPC whose router type does not offer it' }],
    });
  return { fixedAddress, vpcId };
}

const leading = async (accepting: Accepting): Promise<void> => {
  const { input, row } = accepting;
  await reach(accepting, String(input.networkInterfaceId), String(row.networkId), 'floatingIp');
};
const leadsNowhere = ({ id }: { id: string }): Problem =>
  new Problem('PRECONDITION_FAILED', `floating IP ${id} leads to no interface`);

export const floatingIpHooks: Hooks = {
  'floatingIp.create': {
    async accept({ tx, row, input, references }) {
      const network = references.get(`network/${String(input.networkId)}`);
      if (network?.external !== true) throw invalid('networkId', 'leads nowhere outside');
      const { subnetId, address } = await takePublicAddress(tx, {
        networkId: network.id,
        ownerId: row.id,
        projectId: String(row.projectId),
        wanted: (input.address as string | null | undefined) ?? null,
        field: 'address',
      });
      Object.assign(row, { subnetId, address, zoneId: network.zoneId });
    },
  },
  'floatingIp.attach': {
    references: interfaceOf,
    holds: heldInterface,
    conditions: ({ row }) => [
      {
        field: 'networkInterfaceId',
        is: null,
        code: 'ALREADY_ATTACHED',
        message: `floating IP ${row.id} leads to an interface already; move it`,
      },
    ],
    accept: leading,
  },
  'floatingIp.move': {
    references: interfaceOf,
    holds: heldInterface,
    async accept(accepting) {
      if (!accepting.row.networkInterfaceId) throw leadsNowhere(accepting.row);
      await leading(accepting);
    },
  },
  'floatingIp.detach': {
    accept({ row }) {
      if (!row.networkInterfaceId) throw leadsNowhere(row);
    },
  },
};

async function forward(accepting: Accepting): Promise<void> {
  const { tx, row, input, references } = accepting;
  const floatingIpId = String(row.floatingIpId);
  const publicPorts = input.publicPorts as Ports;
  const targetPorts = (input.targetPorts as Ports | null | undefined) ?? publicPorts;
  refuseAll(contradictionsIn(publicPorts, targetPorts));
  const allowed = (input.allowedCidrs ?? []) as string[];
  const group = input.addressGroupId ? references.get(`addressGroup/${String(input.addressGroupId)}`) : undefined;
  if (group && allowed.length > 0) throw invalid('addressGroupId', 'can not stand beside allowedCidrs');
  if (group && group.family !== 4) throw invalid('addressGroupId', 'is a group of IPv6');
  const [address] = await lockFloatingIp(tx, { floatingIpId });
  if (!address) throw invalid('floatingIpId', 'is gone');
  if (address.networkInterfaceId)
    throw new Problem('ALREADY_ATTACHED', `floating IP ${floatingIpId} leads to an interface as a whole`, {
      violations: [{ field: 'floatingIpId', message: 'leads to an interface as a whole' }],
    });
  const { from: first, to: last = first } = publicPorts;
  const [other] = await forwardWith(tx, { floatingIpId, protocol: String(row.protocol), first, last });
  if (other)
    throw new Problem('ADDRESS_IN_USE', `port forward ${other.id} has some of these ports`, {
      violations: [{ field: 'publicPorts', message: 'are in use' }],
    });
  await refuseListenedPorts(accepting, { floatingIpId, protocol: String(row.protocol), first, last }, 'publicPorts');
  const target = row.networkInterfaceId
    ? await reach(accepting, String(row.networkInterfaceId), address.networkId, 'portForward')
    : null;
  Object.assign(row, { targetPorts, address: target?.fixedAddress ?? null, vpcId: target?.vpcId ?? null });
}

export const portForwardHooks: Hooks = {
  'portForward.create': {
    permittedAt: (row, loaded) =>
      placeOf(
        kindOf('floatingIp'),
        loaded.get(`floatingIp/${String(row.floatingIpId)}`) ?? { id: String(row.floatingIpId) },
      ),
    holds: (scene) => [
      ...heldInterface(scene),
      {
        kind: 'floatingIp',
        id: String(scene.input.floatingIpId),
        mode: 'X',
        conditions: [
          {
            field: 'networkInterfaceId',
            is: null,
            code: 'ALREADY_ATTACHED',
            message: `floating IP ${String(scene.input.floatingIpId)} leads to an interface as a whole`,
          },
        ],
      },
    ],
    accept: forward,
  },
  'portForward.attach': {
    references: (input) => interfaceOf(input).map((reference) => ({ ...reference, use: 'forward' })),
    holds: heldInterface,
    conditions: ({ row }) => [
      {
        field: 'networkInterfaceId',
        is: null,
        code: 'ALREADY_ATTACHED',
        message: `port forward ${row.id} leads to an interface already; detach it first`,
      },
    ],
    async accept(accepting) {
      const { tx, row, input } = accepting;
      const [address] = await floatingIpOf(tx, { floatingIpId: String(row.floatingIpId) });
      if (!address) throw invalid('floatingIpId', 'is gone');
      await reach(accepting, String(input.networkInterfaceId), address.networkId, 'portForward');
    },
  },
  'portForward.detach': {
    accept({ row }) {
      if (!row.networkInterfaceId)
        throw new Problem('PRECONDITION_FAILED', `port forward ${row.id} leads to no interface`);
    },
  },
  'portForward.setAllowed': {
    accept({ row }) {
      if (row.addressGroupId) throw invalid('allowedCidrs', 'is for port forwards without an address group');
    },
  },
};
