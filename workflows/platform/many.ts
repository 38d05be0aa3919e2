/** Many operations, so many at a time, each of which ends by itself: what succeeded stays, whatever becomes of the others. */
import type { Piece } from '../../model/platform/operation.ts';
import type { Step } from '../saga.ts';

export interface Failed {
  targetId: string;
  code: string;
  message: string;
}

/** So many at a time. With what `work` is given it keeps all that has not begun from beginning. */
export async function sideBySide<T>(
  all: readonly T[],
  most: number,
  work: (one: T, endEarly: () => void) => Promise<unknown>,
): Promise<void> {
  const left = [...all];
  const endEarly = (): void => {
    left.length = 0;
  };
  const runNext = async (): Promise<void> => {
    for (let one = left.shift(); one !== undefined; one = left.shift()) await work(one, endEarly);
  };
  await Promise.all(Array.from({ length: Math.min(most, left.length) }, runNext));
}

/** Asked before each begins, with how long the slowest before it has taken, in milliseconds. */
export type MayBegin = (slowestMs: number) => boolean;

/** Whether one that begins now would be done in time: it is taken to need so many seconds, or as long as the slowest has taken. */
export const withinWindow =
  (notAfter: string | null, seconds = 0): MayBegin =>
  (slowestMs) =>
    notAfter === null || Date.now() + Math.max(seconds * 1000, slowestMs) <= Date.parse(notAfter);

/** For those that end with the window by themselves: one of many that is left no time begins nothing, and says so. */
export const untilEnd =
  (notAfter: string | null): MayBegin =>
  () =>
    notAfter === null || Date.now() < Date.parse(notAfter);

/** Answers which have failed, how many have succeeded, and how many were not begun any more. */
export async function runEach(
  { child, problemOf }: Pick<Step, 'child' | 'problemOf'>,
  pieces: readonly Piece[],
  {
    maxParallel,
    stopOnFailure = false,
    mayFail = false,
    mayBegin = () => true,
    onSuccess = () => {},
  }: {
    maxParallel: number;
    stopOnFailure?: boolean;
    mayFail?: boolean;
    mayBegin?: MayBegin;
    onSuccess?: (piece: Piece) => void;
  },
): Promise<{ succeeded: number; failed: Failed[]; notRun: number }> {
  const failed: Failed[] = [];
  let succeeded = 0;
  let slowestMs = 0;
  await sideBySide(pieces, maxParallel, async (piece, endEarly) => {
    const { about, request } = piece;
    if (!mayBegin(slowestMs)) return endEarly();
    const begunAt = Date.now();
    try {
      await child({ ...request, mayFail });
      slowestMs = Math.max(slowestMs, Date.now() - begunAt);
      succeeded += 1;
      onSuccess(piece);
    } catch (error) {
      const { code, message } = problemOf(error);
      failed.push({ targetId: about, code, message });
      if (stopOnFailure) endEarly();
    }
  });
  return { succeeded, failed, notRun: pieces.length - succeeded - failed.length };
}

/** So many of those that failed are told one by one; all are among the steps. */
const toldFailures = 20;

/** What the problem of a whole tells of its parts. */
export const partsOf = ({ failed, ...counts }: { failed: Failed[] } & Record<string, unknown>) => ({
  ...counts,
  failed: failed.slice(0, toldFailures),
});
