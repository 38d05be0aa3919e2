import { saga } from '../saga.ts';
import { schedules } from '../steps.ts';

export interface CreateSchedule {
  scheduleId: string;
}

/** Tells Temporal when to run it. A run that would be due before this has ended is left out. */
export async function createSchedule({ scheduleId }: CreateSchedule): Promise<void> {
  await saga(async (step) => {
    await step(schedules.publish, { scheduleId, wanted: null, was: null });
    await step(schedules.lookAhead, { scheduleId });
  });
}
