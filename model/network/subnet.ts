import { Type } from 'typebox';
import { boolean, Cidr, field, Ip, integer, json, kind, object, ref } from '../kind.ts';

export const subnet = kind({
  name: 'subnet',
  plural: 'subnets',
  area: 'network',
  scope: 'project',
  summary: 'An IPv4 range with DHCP on a network',
  livesWith: 'networkId',
  fields: {
    networkId: ref('network', 'create!', { use: 'addSubnet', onDelete: 'cascade' }),
    zoneId: ref('zone', 'system', { onDelete: 'ignore' }),
    physicalNetworkId: ref('physicalNetwork', 'system', { onDelete: 'ignore' }),
    external: boolean('system', { default: false, description: 'Its addresses are public' }),
    vpcId: ref('vpc', 'system', { onDelete: 'ignore' }),
    routeTableId: ref('routeTable', 'create', {
      description: 'Of a subnet in a VPC: a route table of that, beside the main one',
    }),
    cidr: field(Cidr, 'create!'),
    gateway: field(Ip, 'create', { description: 'The first address unless said' }),
    allocationRanges: json(Type.Array(object({ from: Ip, to: Ip }), { maxItems: 16 }), 'create', {
      default: [],
      description: 'Where automatic addresses come from; the whole range unless said',
    }),
    dhcp: boolean('create', { default: true }),
    leaseSeconds: integer(60, 604_800, 'create', { default: 43_200 }),
    dnsServers: field(Type.Array(Ip, { maxItems: 8 }), 'create', {
      default: [],
      description: 'Told by DHCP; those of the zone when none is named',
    }),
  },
  states: ['creating', 'ready', 'deleting', 'failed'],
  unique: [
    { fields: ['networkId', 'cidr'], ranges: true, code: 'ADDRESS_IN_USE' },
    { fields: ['vpcId', 'cidr'], ranges: true, code: 'ADDRESS_IN_USE' },
  ],
  actions: {
    create: {
      summary: 'Make a subnet',
      mode: 'operation',
      via: 'creating',
      to: 'ready',
      cancellable: true,
      steps: ['subnets.make'],
    },
    update: { summary: 'Change a subnet', mode: 'sync' },
    delete: {
      summary: 'Remove a subnet without used addresses',
      mode: 'operation',
      lock: 'D',
      from: ['ready'],
      via: 'deleting',
      to: 'deleted',
      pointOfNoReturn: 'subnets.remove',
      steps: ['subnets.remove'],
    },
  },
});
