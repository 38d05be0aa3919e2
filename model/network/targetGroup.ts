import { type Static, Type } from 'typebox';
import { choice, Ip, integer, json, kind, object, oneOf, ref, refs, Uuid, withDefault } from '../kind.ts';

/** Each of them, at each port of a listener, is a line in the tables of every host that carries its VPC. */
export const targetsMax = 32;

const port = Type.Integer({ minimum: 1, maximum: 65_535 });

export const Target = object({
  instanceId: Type.Optional({ ...Uuid, description: 'Stands for its first interface in the VPC' }),
  networkInterfaceId: Type.Optional({ ...Uuid, description: 'In the VPC; its address is followed' }),
  address: Type.Optional({ ...Ip, description: 'Within the ranges of the VPC; nobody looks whether it answers' }),
  port: Type.Optional({ ...port, description: 'That of the group unless said' }),
  enabled: withDefault(
    Type.Boolean({ description: 'false: it is sent no new connections; those that it has go on' }),
    true,
  ),
});
export type Target = Static<typeof Target>;

export const HealthCheck = object({
  intervalSeconds: withDefault(Type.Integer({ minimum: 1, maximum: 300 }), 5),
  timeoutSeconds: withDefault(
    Type.Integer({ minimum: 1, maximum: 300, description: 'After so long an answer is none' }),
    3,
  ),
  healthyCount: withDefault(
    Type.Integer({ minimum: 1, maximum: 10, description: 'So many answers, and it is sent connections again' }),
    1,
  ),
  unhealthyCount: withDefault(
    Type.Integer({ minimum: 1, maximum: 10, description: 'So many without an answer, and it is sent none any more' }),
    2,
  ),
});
export type HealthCheck = Required<Static<typeof HealthCheck>>;

export const healthCheckDefaults: HealthCheck = {
  intervalSeconds: 5,
  timeoutSeconds: 3,
  healthyCount: 1,
  unhealthyCount: 2,
};

export const algorithms = ['roundRobin', 'sourceHash'] as const;
const Targets = Type.Array(Target, { maxItems: targetsMax });

const names = ['instanceId', 'networkInterfaceId', 'address'] as const;

/** What of the targets can not be meant. */
export function contradictionsIn(
  targets: readonly Target[],
  groupPort: number | null,
): { field: string; message: string }[] {
  const first = new Map<string, number>();
  return targets.flatMap((target, index) => {
    const wrong = (field: string, message: string) => [{ field: `targets.${index}.${field}`, message }];
    const said = names.filter((name) => target[name] != null);
    const [name, other] = said;
    if (!name) return wrong('networkInterfaceId', 'is needed, or instanceId, or address');
    if (other) return wrong(other, `can not stand beside ${name}`);
    if (target.port != null && groupPort === null)
      return wrong('port', 'is for groups that have one: in others it is that of each listener');
    const key = `${target[name]} ${target.port ?? ''}`;
    const before = first.get(key);
    if (before !== undefined) return wrong(name, `is targets.${before} already`);
    first.set(key, index);
    return [];
  });
}

/** Where listeners send connections to. Nothing real is there of it but an address in each subnet of its targets, from which these are asked. */
export const targetGroup = kind({
  name: 'targetGroup',
  plural: 'target-groups',
  area: 'network',
  scope: 'project',
  summary: 'Instances that answer for each other',
  fields: {
    vpcId: ref('vpc', 'create!', { onDelete: 'cascade' }),
    protocol: choice(['tcp', 'udp'], 'create!'),
    port: integer(1, 65_535, 'create', {
      description: 'At which targets answer; the one at which the listener was asked, unless said',
    }),
    algorithm: choice(algorithms, 'create', {
      default: 'roundRobin',
      description: 'roundRobin: connections are spread evenly; sourceHash: those of one address come to one target',
    }),
    healthCheck: json(HealthCheck, 'create', { description: 'How targets are asked, at their port' }),
    targets: json(Targets, 'create', { default: [] }),
    networkInterfaceIds: refs('networkInterface', 'system', {
      onDelete: 'ignore',
      description: 'Of its targets; one that is gone is sent nothing',
    }),
  },
  states: ['ready', 'updating', 'deleting'],
  views: {
    health: {
      summary: 'How its targets answer',
      answer: object({
        items: Type.Array(
          object({
            networkInterfaceId: Type.Union([Uuid, Type.Null()]),
            instanceId: Type.Union([Uuid, Type.Null()]),
            address: Type.Union([Ip, Type.Null()]),
            port: Type.Union([port, Type.Null()]),
            health: {
              ...oneOf('healthy', 'unhealthy', 'unknown', 'disabled', 'gone'),
              description:
                'unknown: nobody asks it, because no listener sends to it or it is an address alone, or it has not been asked yet; ' +
                'gone: there is no such interface, or its instance is destroyed',
            },
          }),
        ),
      }),
    },
  },
  actions: {
    create: { summary: 'Make a target group', mode: 'sync', to: 'ready' },
    update: { summary: 'Change name and labels', mode: 'sync' },
    setTargets: {
      summary: 'Replace all targets at once',
      happened: 'targetsSet',
      mode: 'operation',
      from: ['ready'],
      via: 'updating',
      to: 'ready',
      input: object({ targets: Targets }),
      pointOfNoReturn: 'targetGroups.freeProbes',
      steps: ['targetGroups.plan', 'targetGroups.record', 'targetGroups.write', 'targetGroups.freeProbes'],
    },
    setOptions: {
      summary: 'Change how connections are spread, and how targets are asked',
      happened: 'optionsSet',
      mode: 'operation',
      from: ['ready'],
      via: 'updating',
      to: 'ready',
      input: object({
        algorithm: Type.Optional({
          ...oneOf(...algorithms),
          description: 'Each is the same as before when not given',
        }),
        healthCheck: Type.Optional(HealthCheck),
      }),
      pointOfNoReturn: 'targetGroups.freeProbes',
      steps: ['targetGroups.plan', 'targetGroups.record', 'targetGroups.write', 'targetGroups.freeProbes'],
    },
    delete: {
      summary: 'Remove a group that no listener sends to',
      mode: 'operation',
      lock: 'D',
      from: ['ready'],
      via: 'deleting',
      to: 'deleted',
      pointOfNoReturn: 'targetGroups.release',
      steps: ['targetGroups.proveUnused', 'targetGroups.release'],
    },
  },
});
