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

/**
 * A moment on the clock of a host's agent, in whole milliseconds of one life of it: whoever was started anew has another clock, and knows nothing
 * of the moments of its predecessor.
 */
export interface Moment {
  life: string;
  ms: number;
}

/**
 * So long after a moment at which its try was known to be the present one may a message be acted on. The agent's clock measures it, because a
 * message may be held up anywhere: in a worker that is suspended before it sends, in a network that comes back, in an agent that is suspended.
 */
export const MESSAGE_SECONDS = 6;

/** `<shard>:<epoch>`. */
export const LEASE_HEADER = 'belay-lease';
/** `<operation>/<index>/<round>.<attempt>`. */
export const STEP_HEADER = 'belay-step';

/** With every answer: `<life>/<ms>`, what the agent's clock says. */
export const CLOCK_HEADER = 'belay-clock';
/** The same of the moment after which nobody acts on a message any more. */
export const UNTIL_HEADER = 'belay-until';

export const leaseText = ({ shard, epoch }: Lease): string => `${shard}:${epoch}`;
export const stepText = ({ operationId, index, round, attempt }: StepTry): string =>
  `${operationId}/${index}/${round}.${attempt}`;

export const momentText = ({ life, ms }: Moment): string => `${life}/${ms}`;

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

export function readMoment(text: string): Moment | undefined {
  const [, life, ms] = /^([\w-]{1,64})\/(\d{1,15})$/.exec(text) ?? [];
  return life === undefined || ms === undefined ? undefined : { life, ms: Number(ms) };
}
