import { cascades } from '../steps.ts';
import { workflow } from '../workflow.ts';
import { sideBySide } from './many.ts';

/** So many children at a time: each is as much work as any operation. */
const atOnce = 10;

/**
 * Removes a resource with all that hangs on it, whatever its kind. First everything is stopped, detached and destroyed, all of which can be
 * taken back; then it is removed, and there is only the way forward.
 */
export const cascade = workflow('cascade', async (step, { kind, id, expunge }) => {
  const { destroy, remove } = await step(cascades.plan, { kind, id, expunge });
  for (const group of destroy) await sideBySide(group, atOnce, step.child);
  step.commit();
  for (const group of remove) await sideBySide(group, atOnce, step.child);
});
