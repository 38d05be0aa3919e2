import { Type } from 'typebox';
import { boolean, choice, DomainName, field, integer, kind, object, oneOf, ref, text, Uuid } from '../kind.ts';

/** Of what rows in OVN are. */
export const kindsInOvn = [
  'vpc',
  'routeTable',
  'floatingIp',
  'portForward',
  'loadBalancer',
  'listener',
  'network',
  'subnet',
  'addressGroup',
  'securityGroup',
  'firewallPolicy',
  'networkInterface',
] as const;
export type KindInOvn = (typeof kindsInOvn)[number];

export const network = kind({
  name: 'network',
  plural: 'networks',
  area: 'network',
  scope: 'project',
  summary: 'One layer-2 broadcast domain',
  catalogue: true,
  fields: {
    zoneId: ref('zone', 'create!'),
    type: choice(['overlay', 'vlan', 'flat'], 'create', {
      default: 'overlay',
      operatorOnly: ['vlan', 'flat'],
      description: 'overlay: between hosts alone; vlan and flat: on a wire, with a tag or without',
    }),
    physicalNetworkId: ref('physicalNetwork', 'create', { description: 'The wire; needed for vlan and flat' }),
    segmentId: integer(0, 4094, 'create', {
      description: 'Of vlan the tag, the first free one of the wire unless said; of flat 0',
      operatorOnly: true,
    }),
    external: boolean('create', {
      default: false,
      operatorOnly: ['true'],
      description: 'It leads outside: its subnets are public ranges, and instances are not plugged into it',
    }),
    vpcId: ref('vpc', 'create', {
      use: 'addNetwork',
      onDelete: 'cascade',
      description: 'Its subnets are at the router of that VPC',
    }),
    visibility: choice(['public', 'private'], 'patch', { default: 'private', operatorOnly: ['public'] }),
    mtu: integer(576, 9000, 'system', { default: 1500, description: 'Guests always see 1500' }),
    portSecurity: boolean('create', {
      default: true,
      description: 'Guests can send with no MAC and no address but their own',
    }),
    dnsDomain: field(DomainName, 'create', {
      description: "The domain that guests are told by DHCP; the zone's unless said",
    }),
    firewallPolicyId: ref('firewallPolicy', 'system', {
      description: 'What decides on all its interfaces before their security groups do',
    }),
    note: text(512, 'patch', { description: 'For people' }),
  },
  states: ['creating', 'ready', 'deleting', 'failed'],
  unique: [{ fields: ['physicalNetworkId', 'segmentId'], code: 'ADDRESS_IN_USE' }],
  actions: {
    create: {
      summary: 'Make a network',
      mode: 'operation',
      via: 'creating',
      to: 'ready',
      cancellable: true,
      steps: ['networks.make'],
    },
    update: { summary: 'Change a network', mode: 'sync' },
    setFirewallPolicy: {
      summary: 'Let a firewall policy decide on all its interfaces, another than before, or none any more',
      happened: 'firewallPolicySet',
      mode: 'operation',
      from: ['ready'],
      to: 'ready',
      cancellable: true,
      input: object({ firewallPolicyId: Type.Optional({ ...Uuid, description: 'None when not given' }) }),
      tells: object({ formerFirewallPolicyId: Type.Union([Uuid, Type.Null()]) }),
      steps: ['networks.carryFirewallPolicy'],
    },
    repair: {
      summary: 'Write all its rows anew from the records',
      happened: 'repaired',
      mode: 'operation',
      from: ['ready'],
      to: 'ready',
      pointOfNoReturn: 'networks.make',
      steps: [
        'networkRecords.contents',
        'networks.make',
        { name: 'subnets.make', when: 'once per subnet' },
        { name: 'securityGroups.make', when: 'once per group that its ports carry' },
        { name: 'networkInterfaces.plug', when: 'once per instance' },
        { name: 'networkInterfaces.makeOne', when: 'once per interface that is attached to nothing' },
      ],
    },
    removeStray: {
      summary: 'Remove what OVN has of a resource that is not there',
      happened: 'strayRemoved',
      mode: 'operation',
      on: 'collection',
      operatorOnly: true,
      input: object({
        kind: oneOf(...kindsInOvn),
        id: Uuid,
      }),
      pointOfNoReturn: 'networks.removeStray',
      steps: ['networks.findStray', 'networks.removeStray'],
    },
    delete: {
      summary: 'Remove a network without interfaces and subnets',
      mode: 'operation',
      lock: 'D',
      from: ['ready'],
      via: 'deleting',
      to: 'deleted',
      pointOfNoReturn: 'networks.remove',
      steps: ['networks.remove'],
    },
  },
});
