/** What a host, real or simulated, remembers of those who spoke to it, and whom it therefore refuses. No I/O: keeping it is its owner's. */
import type { Lease, StepTry } from './stamp.ts';

export interface Marks {
  /** By shard, the newest epoch. */
  leases: Record<string, number>;
  /** By `<operation>/<index>`, the newest round and attempt; the one that came last is last. */
  steps: Record<string, [round: number, attempt: number]>;
}

export interface Fence {
  /**
   * Takes a message's lease and step, or says why it comes too late. `isNew` when there is now more to remember: that must be kept
   * before the message is acted on.
   */
  admit(lease: Lease, step?: StepTry): { refusal: string } | { isNew: boolean };
  marks(): Marks;
}

/**
 * Steps of an operation that are remembered. Older ones are of operations that ended long ago, and whoever still carries one of their
 * calls out has, by then, lost his lease too.
 */
const KEPT_STEPS = 4_096;

export function createFence(before: Marks = { leases: {}, steps: {} }): Fence {
  const leases = new Map(Object.entries(before.leases));
  const steps = new Map(Object.entries(before.steps));

  return {
    admit(lease, step) {
      const shard = String(lease.shard);
      const epoch = leases.get(shard) ?? 0;
      if (lease.epoch < epoch)
        return {
          refusal: `the lease of shard ${shard} has passed on (epoch ${epoch}); this message is of its holder before (epoch ${lease.epoch})`,
        };
      const key = step && `${step.operationId}/${step.index}`;
      const [round, attempt] = (key === undefined ? undefined : steps.get(key)) ?? [0, 0];
      if (step && (step.round < round || (step.round === round && step.attempt < attempt)))
        return {
          refusal: `step ${step.index} of operation ${step.operationId} has gone on (try ${round}.${attempt}); this message is of try ${step.round}.${step.attempt}`,
        };
      let isNew = lease.epoch > epoch;
      if (isNew) leases.set(shard, lease.epoch);
      // Nothing comes before the first try of the first round, so there is nothing to refuse for its sake.
      const isFirst = step?.round === 1 && step.attempt === 1;
      if (step && key !== undefined && !isFirst && (step.round !== round || step.attempt !== attempt)) {
        isNew = true;
        steps.delete(key);
        steps.set(key, [step.round, step.attempt]);
        for (const oldest of steps.keys()) {
          if (steps.size <= KEPT_STEPS) break;
          steps.delete(oldest);
        }
      }
      return { isNew };
    },
    marks: () => ({ leases: Object.fromEntries(leases), steps: Object.fromEntries(steps) }),
  };
}
