import { ApplicationFailure } from '@temporalio/workflow';
import { schedules } from '../steps.ts';
import { workflow } from '../workflow.ts';
import { partsOf, runEach, untilEnd, withinWindow } from './many.ts';

/**
 * A run of a schedule: its action on each of its targets, so many at a time, then the end of those of its products that its retention does not
 * keep. Each is an operation of its own, and what one has done stays, whatever becomes of the others. It fails when one of them has failed.
 */
export const runNowSchedule = workflow('schedule.runNow', async (step, { scheduleId, dueAt }) => {
  const { pieces, maxParallel, retains, notAfter, endByThemselves } = await step(schedules.expand, {
    scheduleId,
    ...(dueAt ? { dueAt } : {}),
  });
  // Runs from before there were windows of maintenance were told of none.
  const end = notAfter ?? null;
  const mayBegin = endByThemselves ? untilEnd(end) : withinWindow(end);
  const done = await runEach(step, pieces, { maxParallel, mayBegin });
  const gone = retains
    ? await runEach(
        step,
        await step(schedules.expire, { scheduleId, failed: done.failed.map(({ targetId }) => targetId) }),
        { maxParallel },
      )
    : { succeeded: 0, failed: [] };
  const { succeeded, notRun } = done;
  const removed = gone.succeeded;
  const failed = [...done.failed, ...gone.failed];
  if (failed.length > 0)
    throw ApplicationFailure.nonRetryable(
      `${failed.length} of ${succeeded + removed + failed.length} failed; the first: ${failed[0]?.message}`,
      'PARTLY_FAILED',
      partsOf({ succeeded, removed, notRun, failed }),
    );
  return { succeeded, removed, notRun };
});
