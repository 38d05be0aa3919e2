import { schedules } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Ends a schedule. What it has made stays, and so does a run that is under way. */
export const deleteSchedule = workflow('schedule.delete', (step, { scheduleId }) =>
  step(schedules.withdraw, { scheduleId }),
);
