import { sleep, workflowInfo } from '@temporalio/workflow';
import { ask, follow } from '../maintain.ts';
import { schedules } from '../steps.ts';

export interface RunSchedule {
  scheduleId: string;
}

/**
 * What a schedule of a tenant or an operator runs in Temporal, at its time or triggered by hand: it begins the operation that the run is, and lasts
 * as long, so that Temporal knows whether the next one has to wait. Whether anything is to be done is asked of the records.
 */
export async function runSchedule({ scheduleId }: RunSchedule): Promise<void> {
  const { workflowId: runId, startTime, searchAttributes } = workflowInfo();
  // Temporal says here for when it was meant.
  const [meant] = (searchAttributes.TemporalScheduledStartTime ?? []) as (Date | undefined)[];
  const dueAt = (meant ?? startTime).toISOString();
  for (;;) {
    const { start, waits } = await ask(schedules.begin, { scheduleId, runId, dueAt });
    if (!waits) return start ? follow(start) : undefined;
    // Seldom enough that a window of a year does not make a history without end.
    await sleep(Math.max(5_000, (Date.now() - startTime.getTime()) / 20));
  }
}
