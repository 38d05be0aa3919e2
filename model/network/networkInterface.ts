import { type Static, Type } from 'typebox';
import { pattern } from '../forms.ts';
import { AnyIp, boolean, field, Ip, Ip6, integer, json, kind, object, ref, Uuid } from '../kind.ts';
import { Mac } from './mac.ts';
import { allowedTraffic } from './traffic.ts';

/** So many interfaces can an instance have. */
export const interfaceSlots = 16;
const secondaryMax = 16;

const AllowedPair = object({
  cidr: Type.String({ format: 'cidr', maxLength: 49, description: 'Addresses that it may send with, too' }),
  mac: Type.Optional({ ...Mac, description: 'With this MAC address; with its own when not given' }),
});
export type Pair = Static<typeof AllowedPair>;

const DnsLabel = Type.String({
  maxLength: 63,
  pattern: pattern(
    '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$',
    'must have 1 to 63 lower-case letters, digits and inner hyphens',
  ),
});

/** What is slower can not be told from a broken link. */
const bytesPerSec = (description: string) =>
  Type.Optional(Type.Integer({ minimum: 12_500, maximum: 125_000_000_000, description }));
const Qos = object({
  inBytesPerSec: bytesPerSec('Into its guest; as fast as it goes when not given'),
  outBytesPerSec: bytesPerSec('Out of its guest; as fast as it goes when not given'),
});
export type Qos = Static<typeof Qos>;

export const networkInterface = kind({
  name: 'networkInterface',
  plural: 'network-interfaces',
  area: 'network',
  scope: 'project',
  summary: 'A port on a network with MAC and address',
  fields: {
    instanceId: ref('instance', 'system', {
      onDelete: 'detach',
      ownWhen: { field: 'alone', value: false },
      description: 'The instance it is attached to',
    }),
    alone: boolean('system', {
      default: false,
      description: 'It was made by itself, or has been detached: it does not go with its instance',
    }),
    networkId: ref('network', 'system'),
    subnetId: ref('subnet', 'create!', { description: 'Of IPv4' }),
    zoneId: ref('zone', 'system', { onDelete: 'ignore' }),
    mac: field(Mac, 'create', { description: 'One that nobody has unless said' }),
    address: field(Ip, 'create', { description: 'The next free one of the subnet unless said' }),
    subnet6Id: ref('subnet', 'create', {
      description: 'A subnet of IPv6 on the same network, for an address of either family',
    }),
    address6: field(Ip6, 'create', {
      description: 'What follows from its MAC address, or the next free one of the subnet, unless said',
    }),
    secondaryAddresses: field(Type.Array(AnyIp, { maxItems: secondaryMax, uniqueItems: true }), 'system', {
      default: [],
      description: 'Further ones of its subnets, which no other interface gets; its guest has to set them up by itself',
    }),
    index: integer(0, interfaceSlots - 1, 'system', { description: 'Its place among the interfaces of its instance' }),
    securityGroupIds: field(Type.Array(Uuid, { maxItems: interfaceSlots, uniqueItems: true }), 'patch', {
      ref: 'securityGroup',
      onDelete: 'block',
      default: [],
    }),
    portSecurity: boolean('patch', {
      description: 'Its guest can send with no MAC and no address but its own; as its network has it unless said',
    }),
    allowedPairs: json(Type.Array(AllowedPair, { maxItems: 16 }), 'patch', {
      default: [],
      description: 'What its guest may send with beside its own addresses, and is sent',
    }),
    qos: json(Qos, 'patch', { description: 'How much it may carry; what is more is dropped' }),
    vpcId: ref('vpc', 'system', { onDelete: 'ignore' }),
    dnsName: field(DnsLabel, 'patch', {
      description: 'By which guests of its network, and of its VPC, find its addresses; no two of these have the same',
    }),
    linkUp: boolean('patch', { default: true, description: 'false: as if its cable were pulled' }),
  },
  states: ['creating', 'ready', 'updating', 'attaching', 'detaching', 'deleting', 'failed'],
  orderable: ['address'],
  unique: [
    { fields: ['networkId', 'mac'], code: 'ADDRESS_IN_USE' },
    { fields: ['subnetId', 'address'], code: 'ADDRESS_IN_USE', blame: 'networkInterfaces' },
    { fields: ['subnet6Id', 'address6'], code: 'ADDRESS_IN_USE', blame: 'networkInterfaces' },
    { fields: ['networkId', 'dnsName'], code: 'NAME_IN_USE' },
    { fields: ['vpcId', 'dnsName'], code: 'NAME_IN_USE' },
    { fields: ['instanceId', 'index'], code: 'ALREADY_ATTACHED', blame: 'instanceId' },
  ],
  views: { allowedTraffic },
  actions: {
    create: {
      summary: 'Make an interface of its own, to be attached to an instance',
      mode: 'operation',
      via: 'creating',
      to: 'ready',
      cancellable: true,
      steps: ['networkInterfaces.makeOne'],
    },
    update: {
      summary: 'Change groups, limits, name, link, and what may be sent with, live when the instance runs',
      mode: 'operation',
      from: ['ready'],
      via: 'updating',
      to: 'ready',
      tells: object({ patch: Type.Record(Type.String(), Type.Unknown()) }),
      pointOfNoReturn: 'networkInterfaceRecords.write',
      steps: [
        'networkInterfaceRecords.plan',
        { name: 'networkInterfaceRecords.takeName', when: 'it is called another name' },
        'networkInterfaces.rewrite',
        { name: 'networkInterfaces.setLink', when: 'its link goes up or down while the instance runs' },
        'networkInterfaceRecords.write',
      ],
    },
    attach: {
      summary: 'Attach to an instance, live when it runs',
      happened: 'attached',
      mode: 'operation',
      from: ['ready'],
      via: 'attaching',
      to: 'ready',
      cancellable: true,
      input: object({ instanceId: Uuid }),
      steps: [
        'networkInterfaceRecords.reserveSlot',
        { name: 'networkInterfaces.bindOne', when: 'the instance runs' },
        { name: 'networkInterfaces.hotPlug', when: 'the instance runs' },
        { name: 'networkInterfaces.awaitOne', when: 'the instance runs' },
      ],
    },
    detach: {
      summary: 'Detach from its instance, live when it runs',
      happened: 'detached',
      mode: 'operation',
      from: ['ready'],
      via: 'detaching',
      to: 'ready',
      steps: [
        'networkInterfaceRecords.locate',
        { name: 'networkInterfaces.hotUnplug', when: 'the instance runs' },
        { name: 'networkInterfaces.unbindOne', when: 'the instance runs' },
        'networkInterfaceRecords.freeSlot',
      ],
    },
    setAddresses: {
      summary: 'Give it other addresses of its subnets, or further ones',
      happened: 'addressesSet',
      mode: 'operation',
      from: ['ready'],
      via: 'updating',
      to: 'ready',
      input: object({
        address: Type.Optional({ ...Ip, description: 'The same as before when not given' }),
        address6: Type.Optional({
          ...Ip6,
          description: 'Of a subnet with dhcpv6; the same as before when not given',
        }),
        secondaryAddresses: Type.Optional(
          Type.Array(AnyIp, {
            maxItems: secondaryMax,
            uniqueItems: true,
            description: 'All that there shall be; the same as before when not given',
          }),
        ),
      }),
      pointOfNoReturn: 'networkInterfaceRecords.writeAddresses',
      steps: [
        'networkInterfaceRecords.takeAddresses',
        'networkInterfaces.rewrite',
        'networkInterfaceRecords.writeAddresses',
      ],
    },
    repair: {
      summary: 'Write its port anew from the records',
      happened: 'repaired',
      mode: 'operation',
      from: ['ready'],
      to: 'ready',
      pointOfNoReturn: 'networkInterfaces.makeOne',
      steps: ['networkInterfaces.makeOne'],
    },
    delete: {
      summary: 'Remove an interface that is attached to no instance',
      mode: 'operation',
      lock: 'D',
      from: ['ready'],
      via: 'deleting',
      to: 'deleted',
      pointOfNoReturn: 'networkInterfaces.removeOne',
      steps: [
        'waysIn.find',
        { name: 'waysIn.close', when: 'something leads to it' },
        { name: 'waysIn.forget', when: 'something leads to it' },
        'networkInterfaces.removeOne',
      ],
    },
  },
});
