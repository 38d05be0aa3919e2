import { saga } from '../saga.ts';
import { schedules } from '../steps.ts';

export interface UpdateSchedule {
  scheduleId: string;
  patch: Record<string, unknown>;
  /** Who asks for this says anew what is run, or when: in that name it runs from then on. */
  takesOver: boolean;
}

/** Changes a schedule here and in Temporal. A run that is under way goes on as it began. */
export async function updateSchedule({ scheduleId, patch, takesOver }: UpdateSchedule): Promise<void> {
  await saga(async (step) => {
    const { before, after, was, wanted } = await step(schedules.plan, { scheduleId, patch, takesOver });
    await step(schedules.write, { scheduleId, before, after });
    await step(schedules.publish, { scheduleId, wanted, was });
    await step(schedules.lookAhead, { scheduleId });
  });
}
