import { schedules } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Changes a schedule here and in Temporal. A run that is under way goes on as it began. */
export const updateSchedule = workflow('schedule.update', async (step, { scheduleId, patch, takesOver }) => {
  const { before, after, was, wanted } = await step(schedules.plan, { scheduleId, patch, takesOver });
  await step(schedules.write, { scheduleId, before, after });
  await step(schedules.publish, { scheduleId, wanted, was });
  await step(schedules.lookAhead, { scheduleId });
});
