import { from, statement, type Values } from '../../database/statement.ts';
import { type RouteTableRecord, routeTableOf } from '../../database/vpcs.ts';
import type { Route } from '../../model/network/routeTable.ts';
import { refuse } from '../failure.ts';
import { asHolder } from '../holder.ts';
import { step } from '../step.ts';
import type { World } from '../world.ts';
import { type AtRouter, removeAt, writeAt } from './router.ts';

/** The name of a route table in OVN: ports of subnets that name it look there, too. */
export const routeTableName = (routeTableId: string): string => `table-${routeTableId}`;

/** What a route table comes to. The main one is everybody's. */
export const routesAt = ({ id, vpcId, isMain, routes }: RouteTableRecord): AtRouter => ({
  vpcId,
  kind: 'routeTable',
  id,
  rows: {
    static_routes: routes.map(({ cidr, nextHop, blackhole }) => ({
      ip_prefix: cidr,
      nexthop: blackhole ? 'discard' : (nextHop ?? ''),
      route_table: isMain ? '' : routeTableName(id),
    })),
  },
});

const writeRoutes = statement((p: Values<{ routeTableId: string; routes: string }>) =>
  from.updateTable('routeTable').set({ routes: p.routes }).where('id', '=', p.routeTableId),
);

interface RouteTableRef {
  routeTableId: string;
}

export const routeTables = (world: World) => {
  async function find(routeTableId: string): Promise<RouteTableRecord> {
    const [table] = await routeTableOf(world.database.connections, { routeTableId });
    if (!table) throw refuse('NOT_FOUND', `route table ${routeTableId} is gone`);
    return table;
  }

  return {
    make: step({
      system: 'ovn',
      do: async ({ routeTableId }: RouteTableRef) => writeAt(world, routesAt(await find(routeTableId))),
      undoText: 'delete routes',
      undo: async ({ routeTableId }) => removeAt(world, routesAt(await find(routeTableId))),
    }),

    /** The new routes in one transaction: no packet ever meets a half-changed table. */
    replaceRoutes: step({
      system: 'ovn',
      do: async ({ routeTableId, routes }: RouteTableRef & { routes: Route[] }) =>
        writeAt(world, routesAt({ ...(await find(routeTableId)), routes })),
      undoText: 'old routes',
      undo: async ({ routeTableId }) => writeAt(world, routesAt(await find(routeTableId))),
    }),

    recordRoutes: step({
      system: 'record',
      async do({ routeTableId, routes }: RouteTableRef & { routes: Route[] }, context) {
        await asHolder(world.database, context, (tx) =>
          writeRoutes(tx, { routeTableId, routes: JSON.stringify(routes) }),
        );
      },
    }),

    remove: step({
      system: 'ovn',
      do: async ({ routeTableId }: RouteTableRef) => removeAt(world, routesAt(await find(routeTableId))),
    }),
  };
};
