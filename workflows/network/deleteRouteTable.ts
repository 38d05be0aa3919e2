import { routeTables } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Removes a route table that no subnet names. There is no way back. */
export const deleteRouteTable = workflow('routeTable.delete', async (step, { routeTableId }) => {
  step.commit();
  await step(routeTables.remove, { routeTableId });
});
