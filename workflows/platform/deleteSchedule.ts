import { saga } from '../saga.ts';
import { schedules } from '../steps.ts';

export interface DeleteSchedule {
  scheduleId: string;
}

/** Ends a schedule. What it has made stays, and so does a run that is under way. */
export async function deleteSchedule({ scheduleId }: DeleteSchedule): Promise<void> {
  await saga((step) => step(schedules.withdraw, { scheduleId }));
}
