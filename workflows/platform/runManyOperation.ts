import { ApplicationFailure } from '@temporalio/workflow';
import { saga } from '../saga.ts';

export interface RunManyOperation {
  action: string;
  targets: { ids: string[] };
  input?: Record<string, unknown>;
  maxParallel?: number;
  stopOnFailure?: boolean;
}

interface Failed {
  targetId: string;
  code: string;
  message: string;
}

/** So many of those that failed are told one by one; all are among the steps. */
const toldFailures = 20;

/**
 * Runs one action on many resources, so many at a time. Each is an operation of its own and ends by itself: what succeeded stays, whatever
 * becomes of the others. It fails when one of them has failed, and says which.
 */
export async function runManyOperation(asked: RunManyOperation): Promise<{ succeeded: number }> {
  const { action: type, targets, input = {}, maxParallel = 10, stopOnFailure = false } = asked;
  return saga(async (step) => {
    const left = [...targets.ids];
    const failed: Failed[] = [];
    let succeeded = 0;
    const runNext = async (): Promise<void> => {
      for (let targetId = left.shift(); targetId !== undefined; targetId = left.shift()) {
        try {
          await step.child({ type, targetId, input });
          succeeded += 1;
        } catch (error) {
          const { code, message } = step.problemOf(error);
          failed.push({ targetId, code, message });
          if (stopOnFailure) left.length = 0;
        }
      }
    };
    await Promise.all(Array.from({ length: Math.min(maxParallel, left.length) }, runNext));
    if (failed.length > 0)
      throw ApplicationFailure.nonRetryable(
        `${failed.length} of ${targets.ids.length} failed; the first: ${failed[0]?.message}`,
        'PARTLY_FAILED',
        { succeeded, failed: failed.slice(0, toldFailures), notRun: targets.ids.length - succeeded - failed.length },
      );
    return { succeeded };
  });
}
