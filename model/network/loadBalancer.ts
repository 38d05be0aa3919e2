import { choice, field, Ip, kind, ref } from '../kind.ts';

/** An address of a VPC behind which several instances answer. It does nothing before it has a listener. */
export const loadBalancer = kind({
  name: 'loadBalancer',
  plural: 'load-balancers',
  area: 'network',
  scope: 'project',
  summary: 'An address behind which several instances answer',
  fields: {
    vpcId: ref('vpc', 'create!', { onDelete: 'cascade' }),
    scheme: choice(['public', 'internal'], 'create!', {
      description: 'public: at a floating IP; internal: at an address of a subnet of the VPC',
    }),
    floatingIpId: ref('floatingIp', 'create', {
      use: 'forward',
      onDelete: 'cascade',
      description: 'Of a public one: it leads to nothing as a whole; other ports of it may be forwarded',
    }),
    subnetId: ref('subnet', 'create', { onDelete: 'cascade', description: 'Of an internal one: in the VPC' }),
    address: field(Ip, 'create', { description: 'Of an internal one: a free one of the subnet unless said' }),
  },
  states: ['creating', 'ready', 'deleting', 'failed'],
  orderable: ['address'],
  unique: [{ fields: ['floatingIpId'], code: 'ALREADY_ATTACHED' }],
  actions: {
    create: {
      summary: 'Make a load balancer',
      mode: 'operation',
      via: 'creating',
      to: 'ready',
      cancellable: true,
      steps: ['loadBalancers.make'],
    },
    update: { summary: 'Change name and labels', mode: 'sync' },
    repair: {
      summary: 'Write its rows, and those of its listeners, anew from the records',
      happened: 'repaired',
      mode: 'operation',
      from: ['ready'],
      to: 'ready',
      pointOfNoReturn: 'loadBalancers.make',
      steps: ['loadBalancers.contents', 'loadBalancers.make', { name: 'listeners.make', when: 'once per listener' }],
    },
    delete: {
      summary: 'Remove a load balancer without listeners',
      mode: 'operation',
      lock: 'D',
      from: ['ready'],
      via: 'deleting',
      to: 'deleted',
      pointOfNoReturn: 'loadBalancers.remove',
      steps: ['loadBalancers.remove'],
    },
  },
});
