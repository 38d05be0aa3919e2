import { routeTables } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Replaces all routes at once. There is no way back once the records hold the new ones: the undo takes the old ones from there. */
export const setRoutesRouteTable = workflow('routeTable.setRoutes', async (step, { routeTableId, routes }) => {
  await step(routeTables.replaceRoutes, { routeTableId, routes });
  step.commit();
  await step(routeTables.recordRoutes, { routeTableId, routes });
});
