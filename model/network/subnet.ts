import { Type } from 'typebox';
import { AnyCidr, AnyIp, boolean, choice, DomainName, field, integer, json, kind, object, ref } from '../kind.ts';
import { Mac } from './mac.ts';

const range = object({ from: AnyIp, to: AnyIp });
const servers = Type.Array(AnyIp, { maxItems: 8 });
const ntpServers = Type.Array(AnyIp, { maxItems: 4 });
const searchDomains = Type.Array(DomainName, { maxItems: 8 });
const hostRoutes = Type.Array(object({ cidr: AnyCidr, nextHop: AnyIp }), { maxItems: 16 });
const leaseSeconds = { minimum: 60, maximum: 604_800 };

export const subnet = kind({
  name: 'subnet',
  plural: 'subnets',
  area: 'network',
  scope: 'project',
  summary: 'A range of addresses of one family with DHCP on a network',
  livesWith: 'networkId',
  fields: {
    networkId: ref('network', 'create!', { use: 'addSubnet', onDelete: 'cascade' }),
    zoneId: ref('zone', 'system', { onDelete: 'ignore' }),
    physicalNetworkId: ref('physicalNetwork', 'system', { onDelete: 'ignore' }),
    external: boolean('system', { default: false, description: 'Its addresses are public' }),
    quarantineSeconds: integer(0, 2_592_000, 'create', {
      default: 0,
      operatorOnly: true,
      description:
        'Of a public range: so long an address that was given back is for nobody but the project that had it',
    }),
    vpcId: ref('vpc', 'system', { onDelete: 'ignore' }),
    routeTableId: ref('routeTable', 'create', {
      description: 'Of a subnet in a VPC: a route table of that, beside the main one',
    }),
    cidr: field(AnyCidr, 'create!'),
    family: field(Type.Unsafe<4 | 6>({ type: 'integer', enum: [4, 6] }), 'system', {
      default: 4,
      description: '4 is IPv4, 6 is IPv6',
    }),
    ipv6Mode: choice(['slaac', 'stateless', 'dhcpv6'], 'create', {
      description:
        'Of IPv6: how guests come to their address. slaac: they make it of their MAC address, in a /64. stateless: the same, and DHCPv6 tells them name servers. dhcpv6: DHCPv6 tells it to them. slaac unless said',
    }),
    gateway: field(AnyIp, 'create', { description: 'Of IPv4 the first address unless said' }),
    allocationRanges: json(Type.Array(range, { maxItems: 16 }), 'create', {
      default: [],
      description: 'Where automatic addresses come from; the whole range unless said, of IPv6 its first 4,294,967,296',
    }),
    reservedRanges: json(Type.Array(range, { maxItems: 16 }), 'patch', {
      default: [],
      description: 'Addresses that no interface gets, such as those of devices outside',
    }),
    reservations: json(
      Type.Array(
        object({
          ip: AnyIp,
          mac: Type.Optional({ ...Mac, description: 'Only an interface with this MAC address gets it' }),
          note: Type.Optional(Type.String({ maxLength: 255 })),
        }),
        { maxItems: 64 },
      ),
      'patch',
      { default: [], description: 'Addresses that only those get who ask for them by name' },
    ),
    dhcp: boolean('create', { default: true }),
    leaseSeconds: integer(leaseSeconds.minimum, leaseSeconds.maximum, 'create', { default: 43_200 }),
    dnsServers: field(servers, 'create', {
      default: [],
      description: 'Told by DHCP; those of the zone when none is named',
    }),
    ntpServers: field(ntpServers, 'create', { default: [], description: 'Told by DHCP of IPv4' }),
    searchDomains: field(searchDomains, 'create', { default: [], description: 'Told by DHCP' }),
    hostRoutes: json(hostRoutes, 'create', {
      default: [],
      description: 'Told by DHCP of IPv4, beside the way to the gateway',
    }),
  },
  states: ['creating', 'ready', 'updating', 'deleting', 'failed'],
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
    setOptions: {
      summary: 'Change what DHCP tells guests; they learn it when they renew',
      happened: 'optionsSet',
      mode: 'operation',
      from: ['ready'],
      via: 'updating',
      to: 'ready',
      input: object({
        leaseSeconds: Type.Optional(
          Type.Integer({ ...leaseSeconds, description: 'Each is the same as before when not given' }),
        ),
        dnsServers: Type.Optional(servers),
        ntpServers: Type.Optional(ntpServers),
        searchDomains: Type.Optional(searchDomains),
        hostRoutes: Type.Optional(hostRoutes),
      }),
      pointOfNoReturn: 'subnets.recordOptions',
      steps: ['subnets.rewrite', 'subnets.recordOptions'],
    },
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
