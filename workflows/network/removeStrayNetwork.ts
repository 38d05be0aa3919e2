import { networks } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Removes rows that lead to no record. From what they would be written again, nobody knows. */
export const removeStrayNetwork = workflow('network.removeStray', async (step, { kind, id }) => {
  await step(networks.findStray, { kind, id });
  step.commit();
  await step(networks.removeStray, { kind, id });
});
