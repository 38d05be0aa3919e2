import { ApplicationFailure } from '@temporalio/workflow';
import { workflow } from '../workflow.ts';
import { partsOf, runEach } from './many.ts';

/**
 * Runs one action on many resources, so many at a time. Each is an operation of its own and ends by itself: what succeeded stays, whatever
 * becomes of the others. It fails when one of them has failed, and says which.
 */
export const runManyOperation = workflow('operation.runMany', async (step, asked) => {
  const { action: type, targets, input, maxParallel, stopOnFailure } = asked;
  const pieces = targets.ids.map((targetId) => ({ about: targetId, request: { type, targetId, input } }));
  const { succeeded, failed, notRun } = await runEach(step, pieces, { maxParallel, stopOnFailure });
  if (failed.length > 0)
    throw ApplicationFailure.nonRetryable(
      `${failed.length} of ${pieces.length} failed; the first: ${failed[0]?.message}`,
      'PARTLY_FAILED',
      partsOf({ succeeded, failed, notRun }),
    );
  return { succeeded };
});
