/**
 * On whose behalf a message comes to a host.
 *
 * A worker that was suspended goes on where it was, maybe hours later, when another has long taken its place. It can not know that by
 * itself, so every message that changes something says under which lease and in which try of which step it was meant, and the host
 * refuses what is older than what it has seen (`fence.ts`).
 */

/** The lease of a shard. The epoch rises each time the shard gets another holder; the database gives it. */
export interface Lease {
  shard: number;
  epoch: number;
}

/** One try of one step of an operation. */
export interface StepTry {
  operationId: string;
  /** Place of the step in its run. */
  index: number;
  /** How often the workflow has asked for it, do and undo together: an undo comes in a later round than its do. */
  round: number;
  /** How often it was tried within that round. */
  attempt: number;
}

export interface Stamp {
  lease: Lease;
  step: StepTry;
}

/** `<shard>:<epoch>`. */
export const LEASE_HEADER = 'belay-lease';
/** `<operation>/<index>/<round>.<attempt>`. */
export const STEP_HEADER = 'belay-step';

export const leaseText = ({ shard, epoch }: Lease): string => `${shard}:${epoch}`;
export const stepText = ({ operationId, index, round, attempt }: StepTry): string =>
  `${operationId}/${index}/${round}.${attempt}`;

/** Undefined when it says something else. */
export function readLease(text: string): Lease | undefined {
  const [, shard, epoch] = /^(\d{1,6}):(\d{1,15})$/.exec(text) ?? [];
  return shard === undefined || epoch === undefined ? undefined : { shard: Number(shard), epoch: Number(epoch) };
}

export function readStep(text: string): StepTry | undefined {
  const [, operationId, index, round, attempt] = /^([\w-]{1,64})\/(\d{1,6})\/(\d{1,6})\.(\d{1,6})$/.exec(text) ?? [];
  if (operationId === undefined) return undefined;
  return { operationId, index: Number(index), round: Number(round), attempt: Number(attempt) };
}
