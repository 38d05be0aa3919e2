import { targetGroups } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Removes a group that no listener sends to. There is no way back once its addresses are anybody's. */
export const deleteTargetGroup = workflow('targetGroup.delete', async (step, { targetGroupId }) => {
  await step(targetGroups.proveUnused, { targetGroupId });
  step.commit();
  await step(targetGroups.release, { targetGroupId });
});
