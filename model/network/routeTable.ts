import { type Static, Type } from 'typebox';
import { boolean, Cidr, Ip, json, kind, object, ref } from '../kind.ts';

const routesMax = 128;

export const Route = object({
  cidr: { ...Cidr, description: 'Where to; 0.0.0.0/0 is everywhere' },
  nextHop: Type.Optional({ ...Ip, description: 'An address in a subnet of the VPC, or at one of its uplinks' }),
  blackhole: Type.Optional(Type.Boolean({ description: 'true: what goes there is dropped; in place of nextHop' })),
  note: Type.Optional(Type.String({ maxLength: 255 })),
});
export type Route = Static<typeof Route>;

/** What of the routes can not be meant. */
export function contradictionsIn(
  routes: readonly Route[],
): { index: number; field: 'cidr' | 'nextHop' | 'blackhole'; message: string }[] {
  const first = new Map<string, number>();
  return routes.flatMap(({ cidr, nextHop, blackhole }, index) => {
    const wrong = (field: 'cidr' | 'nextHop' | 'blackhole', message: string) => [{ index, field, message }];
    const other = first.get(cidr);
    if (other === undefined) first.set(cidr, index);
    if (blackhole && nextHop !== undefined) return wrong('blackhole', 'can not stand beside nextHop');
    if (!blackhole && nextHop === undefined) return wrong('nextHop', 'is needed, unless it is a blackhole');
    return other === undefined ? [] : wrong('cidr', `is where routes.${other} leads already`);
  });
}

/** Routes of a VPC beside those to its subnets and its default uplink. */
export const routeTable = kind({
  name: 'routeTable',
  plural: 'route-tables',
  area: 'network',
  scope: 'project',
  summary: 'Where the router of a VPC sends what is for elsewhere',
  livesWith: 'vpcId',
  fields: {
    vpcId: ref('vpc', 'create!', {
      use: 'addRouteTable',
      onDelete: 'cascade',
      ownWhen: { field: 'isMain', value: true },
    }),
    isMain: boolean('system', { default: false, description: 'It is for all subnets; a VPC is made with it' }),
    routes: json(Type.Array(Route, { maxItems: routesMax }), 'create', { default: [] }),
  },
  states: ['creating', 'ready', 'updating', 'deleting', 'failed'],
  unique: [{ fields: ['vpcId'], among: { isMain: true }, code: 'NAME_IN_USE' }],
  actions: {
    create: {
      summary: 'Make a route table for some subnets of a VPC',
      mode: 'operation',
      via: 'creating',
      to: 'ready',
      cancellable: true,
      steps: ['routeTables.make'],
    },
    update: { summary: 'Change name and labels', mode: 'sync' },
    setRoutes: {
      summary: 'Replace all routes at once',
      happened: 'routesSet',
      mode: 'operation',
      from: ['ready'],
      via: 'updating',
      to: 'ready',
      input: object({ routes: Type.Array(Route, { maxItems: routesMax }) }),
      pointOfNoReturn: 'routeTables.recordRoutes',
      steps: ['routeTables.replaceRoutes', 'routeTables.recordRoutes'],
    },
    delete: {
      summary: 'Remove a route table that no subnet names',
      mode: 'operation',
      lock: 'D',
      from: ['ready'],
      via: 'deleting',
      to: 'deleted',
      pointOfNoReturn: 'routeTables.remove',
      steps: ['routeTables.remove'],
    },
  },
});
