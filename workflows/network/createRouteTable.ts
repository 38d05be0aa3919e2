import { routeTables } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Makes a route table: its routes at the router of its VPC. */
export const createRouteTable = workflow('routeTable.create', async (step, { routeTableId }) => {
  await step(routeTables.make, { routeTableId });
});
