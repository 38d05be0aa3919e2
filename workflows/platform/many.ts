/** Many operations, so many at a time, each of which ends by itself: what succeeded stays, whatever becomes of the others. */
import type { ChildRequest } from '../child.ts';
import type { Step } from '../saga.ts';

/** One child, and what it is about. */
export interface Piece {
  about: string;
  request: ChildRequest;
}

export interface Failed {
  targetId: string;
  code: string;
  message: string;
}

/** Answers which have failed, how many have succeeded, and how many were not begun any more. */
export async function runEach(
  step: Step,
  pieces: readonly Piece[],
  { maxParallel, stopOnFailure = false }: { maxParallel: number; stopOnFailure?: boolean },
): Promise<{ succeeded: number; failed: Failed[]; notRun: number }> {
  const left = [...pieces];
  const failed: Failed[] = [];
  let succeeded = 0;
  const runNext = async (): Promise<void> => {
    for (let piece = left.shift(); piece !== undefined; piece = left.shift()) {
      try {
        await step.child(piece.request);
        succeeded += 1;
      } catch (error) {
        const { code, message } = step.problemOf(error);
        failed.push({ targetId: piece.about, code, message });
        if (stopOnFailure) left.length = 0;
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(maxParallel, left.length) }, runNext));
  return { succeeded, failed, notRun: pieces.length - succeeded - failed.length };
}

/** So many of those that failed are told one by one; all are among the steps. */
const toldFailures = 20;

/** What the problem of a whole tells of its parts. */
export const partsOf = ({ failed, ...counts }: { failed: Failed[] } & Record<string, unknown>) => ({
  ...counts,
  failed: failed.slice(0, toldFailures),
});
