import { type Static, Type } from 'typebox';
import { Cidr, choice, field, Ip, json, kind, object, ref, Uuid } from '../kind.ts';

const port = Type.Integer({ minimum: 1, maximum: 65_535 });
/** Each port is an entry in the table of every host that carries the router. */
export const portsMax = 128;

export const Ports = object({ from: port, to: Type.Optional({ ...port, description: 'from when not given' }) });
export type Ports = Static<typeof Ports>;

/** What of the ports can not be meant. */
export function contradictionsIn(publicPorts: Ports, targetPorts: Ports): { field: string; message: string }[] {
  const size = ({ from, to = from }: Ports): number => to - from + 1;
  const wrong = (field: string, message: string) => [{ field, message }];
  if (size(publicPorts) < 1) return wrong('publicPorts.to', `must be at least from, which is ${publicPorts.from}`);
  if (size(publicPorts) > portsMax) return wrong('publicPorts', `are more than ${portsMax}`);
  if (size(targetPorts) < 1) return wrong('targetPorts.to', `must be at least from, which is ${targetPorts.from}`);
  return size(targetPorts) === size(publicPorts) ? [] : wrong('targetPorts', 'must be as many as publicPorts');
}

const sources = {
  allowedCidrs: Type.Array(Cidr, { maxItems: 64, uniqueItems: true, description: 'Who may come; anybody when empty' }),
};

/** Some ports of a floating IP, each led to one port of an interface. */
export const portForward = kind({
  name: 'portForward',
  plural: 'port-forwards',
  area: 'network',
  scope: 'project',
  summary: 'Ports of a floating IP that lead to an interface',
  livesWith: 'floatingIpId',
  fields: {
    floatingIpId: ref('floatingIp', 'create!', { use: 'forward', onDelete: 'cascade' }),
    protocol: choice(['tcp', 'udp'], 'create!'),
    publicPorts: json(Ports, 'create!'),
    targetPorts: json(Ports, 'create', { description: 'As many; publicPorts unless said' }),
    networkInterfaceId: ref('networkInterface', 'create', {
      use: 'forward',
      onDelete: 'detach',
      description: 'In a VPC with an uplink to the network of the floating IP; without one the ports lead nowhere yet',
    }),
    address: field(Ip, 'system', { description: 'Of that interface' }),
    vpcId: ref('vpc', 'system', { onDelete: 'ignore' }),
    allowedCidrs: json(sources.allowedCidrs, 'create', { default: [] }),
    addressGroupId: ref('addressGroup', 'create', {
      description: 'Who may come, in place of allowedCidrs: any of its entries, as they are at the time',
    }),
  },
  states: ['creating', 'ready', 'updating', 'attaching', 'detaching', 'deleting', 'failed'],
  actions: {
    create: {
      summary: 'Lead ports of a floating IP to an interface',
      mode: 'operation',
      via: 'creating',
      to: 'ready',
      cancellable: true,
      steps: ['portForwards.make'],
    },
    update: { summary: 'Change name and labels', mode: 'sync' },
    attach: {
      summary: 'Let it lead to an interface',
      happened: 'attached',
      mode: 'operation',
      from: ['ready'],
      via: 'attaching',
      to: 'ready',
      cancellable: true,
      input: object({
        networkInterfaceId: { ...Uuid, description: 'In a VPC with an uplink to the network of the floating IP' },
      }),
      steps: ['portForwards.plan', 'portForwards.record', 'portForwards.make'],
    },
    detach: {
      summary: 'Let it lead nowhere; its ports stay its own',
      happened: 'detached',
      mode: 'operation',
      from: ['ready'],
      via: 'detaching',
      to: 'ready',
      cancellable: true,
      steps: ['waysIn.find', 'waysIn.close', 'waysIn.forget'],
    },
    setAllowed: {
      summary: 'Say who may come',
      happened: 'allowedSet',
      mode: 'operation',
      from: ['ready'],
      via: 'updating',
      to: 'ready',
      input: object(sources),
      pointOfNoReturn: 'portForwards.recordAllowed',
      steps: ['portForwards.replaceAllowed', 'portForwards.recordAllowed'],
    },
    delete: {
      summary: 'Lead them nowhere any more',
      mode: 'operation',
      lock: 'D',
      from: ['ready'],
      via: 'deleting',
      to: 'deleted',
      pointOfNoReturn: 'portForwards.remove',
      steps: ['portForwards.remove'],
    },
  },
});
