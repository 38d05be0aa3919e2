import { createFence, type Marks } from '../fence.ts';
import { Problem } from '../problem.ts';
import type { Lease, StepTry } from '../stamp.ts';
import { readIfExists, writeFileAtomically } from './paths.ts';

/** Whom this host refuses, kept on disk: an agent that was started anew, or a host that was, refuses the same. */
export interface KeptFence {
  /**
   * Resolves when the message may be acted on, with all that had to be remembered for it on disk.
   *
   * @throws Problem SUPERSEDED when a newer one has come before; PRECONDITION_FAILED when what was remembered is unreadable.
   */
  admit(lease: Lease, step?: StepTry): Promise<void>;
  /** Tells of each lease that is newer than the one before it. */
  onNewLease(listener: (lease: Lease) => void): () => void;
}

/** Never rejects: a file that can not be read is told by `admit`, to those who can do something about it. */
export async function openFence(path: string, onUnreadable: (reason: string) => void): Promise<KeptFence> {
  const read = await readMarks(path).catch((error: Error) => error);
  if (read instanceof Error) onUnreadable(read.message);
  const fence = createFence(read instanceof Error ? undefined : read);
  const listeners = new Set<(lease: Lease) => void>();
  /** Counts what there is to keep, and how much of it is on disk. */
  let known = 0;
  let kept = 0;
  let writing: Promise<void> | undefined;

  async function write(): Promise<void> {
    const upTo = known;
    await writeFileAtomically(path, JSON.stringify(fence.marks()), 0o600);
    kept = upTo;
  }

  /** Whoever comes while a file is being written waits for the next: many are kept by one. */
  async function keep(upTo: number): Promise<void> {
    while (kept < upTo) {
      writing ??= write().finally(() => {
        writing = undefined;
      });
      await writing;
    }
  }

  function take(lease: Lease, step: StepTry | undefined): boolean {
    const verdict = fence.admit(lease, step);
    // Another try may succeed: the one who asks may have got its shard, or its turn, since.
    if ('refusal' in verdict) throw new Problem('SUPERSEDED', verdict.refusal, true);
    return verdict.isNew;
  }

  return {
    async admit(lease, step) {
      // Without its memory a host would take orders from anybody's past. Nobody knows what it has forgotten, so nothing is done.
      if (read instanceof Error)
        throw new Problem(
          'PRECONDITION_FAILED',
          `${path} is unreadable (${read.message}), so this host can not tell whose orders are old: connect it again`,
        );
      if (take(lease, step)) {
        known += 1;
        for (const listener of listeners) listener(lease);
      }
      await keep(known);
      // A newer one may have come while the disk was busy.
      take(lease, step);
    },
    onNewLease(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}

async function readMarks(path: string): Promise<Marks | undefined> {
  const text = await readIfExists(path);
  if (text === undefined) return undefined;
  const found: unknown = JSON.parse(text);
  if (!isMarks(found)) throw new Error('it holds something else');
  return found;
}

function isMarks(found: unknown): found is Marks {
  const { leases, steps } = (found ?? {}) as Partial<Marks>;
  const isNumber = (value: unknown): boolean => typeof value === 'number' && Number.isSafeInteger(value);
  const isTry = (value: unknown): boolean => Array.isArray(value) && value.length === 2 && value.every(isNumber);
  const isTable = (value: unknown): value is object => typeof value === 'object' && value !== null;
  return (
    isTable(leases) && isTable(steps) && Object.values(leases).every(isNumber) && Object.values(steps).every(isTry)
  );
}
