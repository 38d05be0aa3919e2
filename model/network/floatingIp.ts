import { field, Ip, kind, object, ref, Uuid } from '../kind.ts';

const target = object({ networkInterfaceId: { ...Uuid, description: 'In a VPC with an uplink to its network' } });
const steps = ['floatingIps.plan', 'floatingIps.record', 'floatingIps.write'] as const;

/** A public address of a project, until it gives it back. Nothing real is there of it before it leads somewhere. */
export const floatingIp = kind({
  name: 'floatingIp',
  plural: 'floating-ips',
  area: 'network',
  scope: 'project',
  summary: 'A public address that a project holds',
  fields: {
    networkId: ref('network', 'create!', { description: 'A network that leads outside' }),
    subnetId: ref('subnet', 'system'),
    zoneId: ref('zone', 'system', { onDelete: 'ignore' }),
    address: field(Ip, 'create', { description: 'A free one unless said' }),
    networkInterfaceId: ref('networkInterface', 'system', { onDelete: 'detach', description: 'What it leads to' }),
    fixedAddress: field(Ip, 'system', { description: 'Of that, inside' }),
    vpcId: ref('vpc', 'system', { onDelete: 'ignore', description: 'At whose router it is' }),
  },
  states: ['ready', 'attaching', 'detaching', 'deleting'],
  orderable: ['address'],
  unique: [
    { fields: ['subnetId', 'address'], code: 'ADDRESS_IN_USE' },
    { fields: ['networkInterfaceId'], code: 'ALREADY_ATTACHED' },
  ],
  actions: {
    create: { summary: 'Hold a public address', mode: 'sync', to: 'ready' },
    update: { summary: 'Change name and labels', mode: 'sync' },
    attach: {
      summary: 'Let it lead to an interface, and whatever goes out from there come from it',
      happened: 'attached',
      mode: 'operation',
      from: ['ready'],
      via: 'attaching',
      to: 'ready',
      cancellable: true,
      input: target,
      steps: [...steps],
    },
    move: {
      summary: 'Let it lead to another interface, at once',
      happened: 'moved',
      mode: 'operation',
      from: ['ready'],
      via: 'attaching',
      to: 'ready',
      cancellable: true,
      input: target,
      steps: [...steps],
    },
    detach: {
      summary: 'Let it lead nowhere',
      happened: 'detached',
      mode: 'operation',
      from: ['ready'],
      via: 'detaching',
      to: 'ready',
      cancellable: true,
      steps: [...steps],
    },
    delete: {
      summary: "Give it back; after a while it may be anybody's",
      mode: 'operation',
      lock: 'D',
      from: ['ready'],
      via: 'deleting',
      to: 'deleted',
      pointOfNoReturn: 'floatingIps.remove',
      steps: ['floatingIps.remove'],
    },
  },
});
