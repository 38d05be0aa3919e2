import { schedules } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Tells Temporal when to run it. A run that would be due before this has ended is left out. */
export const createSchedule = workflow('schedule.create', async (step, { scheduleId }) => {
  await step(schedules.publish, { scheduleId, wanted: null, was: null });
  await step(schedules.lookAhead, { scheduleId });
});
