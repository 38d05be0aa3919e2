import { type Static, Type } from 'typebox';
import { Cidr, field, Ip, json, kind, object, ref, refs, Uuid, withDefault } from '../kind.ts';
import { topology } from './topology.ts';

/** A way out of a VPC: an address of its own on a network that leads outside. */
export const Uplink = object({
  id: Uuid,
  networkId: Uuid,
  subnetId: Uuid,
  address: Ip,
  gateway: Ip,
  prefixLength: Type.Integer({ minimum: 1, maximum: 32 }),
  snat: Type.Boolean(),
  isDefault: Type.Boolean(),
});
export type Uplink = Static<typeof Uplink>;

export const uplinksMax = 4;

const Cidrs = Type.Array(Cidr, { minItems: 1, maxItems: 16, uniqueItems: true });

const uplinkInput = {
  networkId: { ...Uuid, description: 'A network that leads outside' },
  address: Type.Optional({ ...Ip, description: 'One of its public addresses; a free one unless said' }),
  snat: withDefault(Type.Boolean({ description: 'What goes out by it has its address' }), true),
  isDefault: withDefault(
    Type.Boolean({ description: 'What no route says otherwise goes out by it; a VPC has one such uplink' }),
    true,
  ),
};

/** A router, and the networks at it. Nothing of it is seen by other VPCs, whatever their addresses. */
export const vpc = kind({
  name: 'vpc',
  plural: 'vpcs',
  area: 'network',
  scope: 'project',
  summary: 'A private address space with its router',
  fields: {
    zoneId: ref('zone', 'create!'),
    cidrs: field(Cidrs, 'create!', { description: 'Its subnets lie in these; what goes out from them is translated' }),
    routerTypeId: ref('routerType', 'create', { description: 'All services and two gateway hosts unless said' }),
    uplink: json(object(uplinkInput), 'input', { description: 'Its first way out; none unless said' }),
    uplinks: json(Type.Array(Uplink, { maxItems: uplinksMax }), 'system', { default: [] }),
    // Public ranges do not go as long as an address of them is in use: networks, which may be in a VPC themselves, could not say so.
    uplinkNetworkIds: refs('network', 'system', { onDelete: 'ignore' }),
    uplinkSubnetIds: refs('subnet', 'system', { onDelete: 'ignore' }),
    publicAddress: field(Ip, 'system', { description: 'What goes out by its default uplink comes from it' }),
    gatewayHostIds: refs('host', 'system', {
      onDelete: 'ignore',
      description: 'The first that is well carries what goes out',
    }),
  },
  states: ['creating', 'ready', 'updating', 'failingOver', 'deleting', 'failed'],
  views: { topology },
  actions: {
    create: {
      summary: 'Make a VPC: its router and the way out',
      mode: 'operation',
      via: 'creating',
      to: 'ready',
      cancellable: true,
      steps: ['vpcs.chooseGateways', 'vpcs.make'],
    },
    update: { summary: 'Change name and labels', mode: 'sync' },
    setCidrs: {
      summary: 'Replace its address ranges; all its subnets must lie in the new ones',
      happened: 'cidrsSet',
      mode: 'operation',
      from: ['ready'],
      via: 'updating',
      to: 'ready',
      input: object({ cidrs: Cidrs }),
      cancellable: true,
      steps: ['vpcs.planCidrs', 'vpcs.recordCidrs', 'vpcs.replaceCidrs'],
    },
    attachUplink: {
      summary: 'Give it a further way out',
      happened: 'uplinkAttached',
      mode: 'operation',
      from: ['ready'],
      via: 'updating',
      to: 'ready',
      cancellable: true,
      input: object(uplinkInput),
      tells: object({ uplinkId: Uuid }),
      steps: ['vpcs.takeUplink', 'vpcs.connectUplink'],
    },
    detachUplink: {
      summary: 'Take a way out that nothing uses',
      happened: 'uplinkDetached',
      mode: 'operation',
      from: ['ready'],
      via: 'updating',
      to: 'ready',
      input: object({ uplinkId: Uuid }),
      pointOfNoReturn: 'vpcs.dropUplink',
      steps: ['vpcs.proveUplinkUnused', 'vpcs.disconnectUplink', 'vpcs.dropUplink'],
    },
    changeType: {
      summary: 'Let it be of another router type; what is there stays',
      happened: 'typeChanged',
      mode: 'operation',
      from: ['ready'],
      via: 'updating',
      to: 'ready',
      cancellable: true,
      input: object({
        routerTypeId: Type.Optional({ ...Uuid, description: 'Of none when not given' }),
      }),
      steps: ['vpcs.planType', { name: 'vpcs.orderGateways', when: 'other hosts carry it then' }, 'vpcs.recordType'],
    },
    failOverGateway: {
      summary: 'Let another gateway host carry what goes out',
      happened: 'failedOver',
      mode: 'operation',
      operatorOnly: true,
      from: ['ready'],
      via: 'failingOver',
      to: 'ready',
      cancellable: true,
      input: object({
        hostId: Type.Optional({ ...Uuid, description: 'The host that comes first then; the second unless said' }),
      }),
      steps: ['vpcs.planFailOver', 'vpcs.orderGateways', 'vpcs.recordGateways'],
    },
    repair: {
      summary: 'Write its rows anew from the records; gateway hosts that are gone are replaced',
      happened: 'repaired',
      mode: 'operation',
      from: ['ready'],
      to: 'ready',
      pointOfNoReturn: 'vpcs.make',
      steps: [
        'vpcs.contents',
        'vpcs.replaceGateways',
        'vpcs.make',
        { name: 'subnets.make', when: 'once per subnet' },
        { name: 'routeTables.make', when: 'once per route table' },
        { name: 'floatingIps.rewrite', when: 'once per floating IP' },
        { name: 'portForwards.make', when: 'once per port forward' },
        { name: 'loadBalancers.make', when: 'once per load balancer' },
        { name: 'listeners.make', when: 'once per listener' },
      ],
    },
    delete: {
      summary: 'Remove a VPC without networks',
      mode: 'operation',
      lock: 'D',
      from: ['ready'],
      via: 'deleting',
      to: 'deleted',
      pointOfNoReturn: 'vpcs.remove',
      steps: ['vpcs.remove'],
    },
  },
});
