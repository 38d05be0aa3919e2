import { Type } from 'typebox';
import { boolean, choice, json, kind, object, ref, Uuid } from '../kind.ts';
import { Ports } from './portForward.ts';

/** Each port is asked of every target by itself. */
export const listenerPortsMax = 16;

/** Those that are carried; what looks into connections is not there yet. */
export const carried = ['tcp', 'udp'] as const;

const steps = ['listeners.plan', 'listeners.record', 'listeners.write'] as const;

/** Ports of a load balancer, and to whom connections to them are sent. */
export const listener = kind({
  name: 'listener',
  plural: 'listeners',
  area: 'network',
  scope: 'project',
  summary: 'Ports of a load balancer, and where it sends connections to',
  livesWith: 'loadBalancerId',
  fields: {
    loadBalancerId: ref('loadBalancer', 'create!', { onDelete: 'cascade' }),
    protocol: choice([...carried, 'http', 'https', 'tls'], 'create!', {
      description: 'tcp and udp; those that look into connections are not there yet',
    }),
    ports: json(Ports, 'create!', {
      description: `At most ${listenerPortsMax}; several only with a target group that names no port`,
    }),
    targetGroupId: ref('targetGroup', 'create!', { description: 'Of the same VPC and protocol' }),
    enabled: boolean('create', { default: true, description: 'false: nobody answers at its ports' }),
  },
  states: ['creating', 'ready', 'updating', 'deleting', 'failed'],
  actions: {
    create: {
      summary: 'Answer at ports of a load balancer',
      mode: 'operation',
      via: 'creating',
      to: 'ready',
      cancellable: true,
      steps: ['listeners.make'],
    },
    update: { summary: 'Change name and labels', mode: 'sync' },
    setOptions: {
      summary: 'Send connections elsewhere, or answer or not',
      happened: 'optionsSet',
      mode: 'operation',
      from: ['ready'],
      via: 'updating',
      to: 'ready',
      cancellable: true,
      input: object({
        targetGroupId: Type.Optional({ ...Uuid, description: 'Each is the same as before when not given' }),
        enabled: Type.Optional(Type.Boolean()),
      }),
      steps: [...steps],
    },
    delete: {
      summary: 'Answer at its ports no more',
      mode: 'operation',
      lock: 'D',
      from: ['ready'],
      via: 'deleting',
      to: 'deleted',
      pointOfNoReturn: 'listeners.remove',
      steps: ['listeners.remove'],
    },
  },
});
