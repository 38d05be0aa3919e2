import { hosts } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Ends a guest where it is not at home. What it had in memory is gone then, so there is no way back. */
export const removeStrayHost = workflow('host.removeStray', async (step, stray) => {
  await step(hosts.findStray, stray);
  step.commit();
  await step(hosts.removeStray, stray);
});
