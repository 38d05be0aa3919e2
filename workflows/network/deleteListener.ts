import { listeners } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Answers at its ports no more. There is no way back. */
export const deleteListener = workflow('listener.delete', async (step, { listenerId }) => {
  step.commit();
  await step(listeners.remove, { listenerId });
});
