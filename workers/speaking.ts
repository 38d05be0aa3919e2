/**
 * How a try of a step speaks to hosts. A try may be overtaken: its worker was suspended, or hangs, and Temporal has given the step to another. Hosts
 * refuse an older try once a newer one has spoken to them; but work on a pool can go through any host that reaches it, so the newer one may have
 * spoken to another. Therefore:
 *
 * - A message goes out with a moment of its host's clock that was heard before the database said that the try is still the present one, and is
 *   not acted on later than `MESSAGE_SECONDS` after it, wherever it was held up.
 * - Whoever overtakes a try says so in the database first. Where the work may go through another host than before, it then waits until no message
 *   of the older try can be acted on any more.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import { noteAround, overtake, refuseLate } from '../activities/holder.ts';
import type { StepContext } from '../activities/step.ts';
import type { Queryable } from '../database/database.ts';
import type { HostConnection, HostInStep } from '../host-agent/connection.ts';
import { isQuestion } from '../host-agent/protocol.ts';
import { MESSAGE_SECONDS, type Stamp } from '../host-agent/stamp.ts';

/** Whom the try of a step that runs right now speaks for; to hosts only by a stamp. */
export interface Speaker {
  context: StepContext;
  stamp: Stamp | null;
  /** When older tries were refused from, in this process's clock; null where there are none. */
  overtookAt: number | null;
  /** Some try of the operation has worked through another host than the one at hand. */
  wentAround: boolean;
  /** Ends early, by throwing, when the try is cancelled. */
  sleep(ms: number): Promise<void>;
  spoken: Map<HostConnection, HostInStep>;
}

export const speaking = new AsyncLocalStorage<Speaker>();

/** The clocks of hosts and of this machine may run at slightly different rates. */
const patienceMs = (MESSAGE_SECONDS + 1) * 1_000;

/** A try that begins: from now on older ones are refused. @throws INVALID_STATE when it is an older one itself */
export async function begin(
  database: Queryable,
  context: StepContext,
  of: { stamp: Stamp | null; mayHaveOlder: boolean; sleep(ms: number): Promise<void> },
): Promise<Speaker> {
  const { stamp, mayHaveOlder, sleep } = of;
  const wentAround = mayHaveOlder && (await overtake(database, context));
  return {
    context,
    stamp,
    overtookAt: mayHaveOlder ? performance.now() : null,
    wentAround,
    sleep,
    spoken: new Map(),
  };
}

/** A host as the speaker talks to it. */
export function asSpeaker(database: Queryable, speaker: Speaker, connection: HostConnection): HostInStep {
  const { stamp, context, spoken } = speaker;
  if (!stamp) throw new Error('only a step on the queue of a host may speak to hosts');
  const known = spoken.get(connection);
  if (known) return known;
  const host = connection.as(stamp, async () => void (await refuseLate(database, context)));
  spoken.set(connection, host);
  return host;
}

/** A host as a run of maintenance talks to it, which is no step of an operation: it has no stamp, so it may ask, and change nothing. */
export function asAsker(connection: HostConnection): HostInStep {
  const refused = (name: string): never => {
    throw new Error(`${name} changes something, which only a step of an operation may`);
  };
  return {
    call: async (name, input, options) =>
      isQuestion(name) ? connection.call(name, input as never, options) : refused(name),
    runTask: async (name) => refused(name),
  };
}

/**
 * Before work that other hosts can do as well is done through one of them. Where this is not the host at hand, or some older try went around that,
 * what those have sent may still be on its way to a host that will not hear of this try.
 */
export async function untilNothingIsUnderWay(database: Queryable, speaker: Speaker, isAround: boolean): Promise<void> {
  if (isAround && !speaker.wentAround) {
    await noteAround(database, speaker.context);
    speaker.wentAround = true;
  }
  if (!speaker.wentAround || speaker.overtookAt === null) return;
  const left = speaker.overtookAt + patienceMs - performance.now();
  if (left > 0) await speaker.sleep(left);
}
