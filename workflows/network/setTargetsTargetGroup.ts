import { targetGroups } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Replaces all targets at once. */
export const setTargetsTargetGroup = workflow('targetGroup.setTargets', async (step, { targetGroupId, targets }) => {
  const { before, after } = await step(targetGroups.plan, { targetGroupId, targets });
  await step(targetGroups.record, { targetGroupId, before, after });
  await step(targetGroups.write, { targetGroupId, before, after });
  step.commit();
  await step(targetGroups.freeProbes, { targetGroupId });
});
