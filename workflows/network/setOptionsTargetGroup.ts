import { targetGroups } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Changes how connections are spread, and how targets are asked. */
export const setOptionsTargetGroup = workflow(
  'targetGroup.setOptions',
  async (step, { targetGroupId, algorithm, healthCheck }) => {
    const { before, after } = await step(targetGroups.plan, { targetGroupId, algorithm, healthCheck });
    await step(targetGroups.record, { targetGroupId, before, after });
    await step(targetGroups.write, { targetGroupId, before, after });
    step.commit();
    await step(targetGroups.freeProbes, { targetGroupId });
  },
);
