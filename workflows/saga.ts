/**
 * The only machinery of workflows: steps that can be undone.
 *
 * A step's undo is registered before its do runs. When a step fails for good, or a cancel arrives before the point of no return,
 * the undos run in reverse, shielded from cancellation, each with its own retries. An undo that keeps failing, and a step after
 * the point of no return that does, make the operation `stuck` until an operator lets it try again or skips that step.
 */
import {
  ActivityCancellationType,
  ActivityFailure,
  type ActivityOptions,
  ApplicationFailure,
  allHandlersFinished,
  CancellationScope,
  CancelledFailure,
  ChildWorkflowFailure,
  condition,
  defineSignal,
  defineUpdate,
  isCancellation,
  patched,
  proxyActivities,
  proxyLocalActivities,
  setHandler,
  sleep,
  upsertSearchAttributes,
  workflowInfo,
} from '@temporalio/workflow';
import type { Begun } from '../activities/platform/operation.ts';
import type { OperationProblem, StepPair, StepPlace, StepReport } from '../activities/step.ts';
import { instantAt } from '../model/forms.ts';
import type { ChildRequest } from '../model/platform/operation.ts';
import { hostQueue } from '../model/shards.ts';
import { belayHost } from '../temporal/search-attributes.ts';
import { cancelSignal, childRuns } from './child.ts';

/** Where a step runs: beside the workflow (records), on the control queue (OVN, object stores), or on the queue of its host. */
export type Where = 'record' | 'control' | 'host';

export interface StepOptions {
  where: Where;
  /** From the start of one attempt to its end. */
  deadlineSeconds: number;
  /** How often it is tried before it has failed, where that is not as often as all others. */
  attempts?: number;
}

export interface StepRef<I, O, N extends string = string> extends StepOptions {
  name: N;
  /** Only carries the types. */
  signature?: (input: I) => O;
}

/** What a body has: steps of these names, children if it may begin operations, a point of no return if it has one. */
export interface Step<Names extends string = string, Begins extends boolean = true, Commits extends boolean = true> {
  <I, O>(ref: StepRef<I, O, Names>, input: I): Promise<O>;
  /** A step that runs from before a change take, and no new one does: it stands behind `patched`, and the action does not declare it. */
  earlier<I, O>(ref: StepRef<I, O>, input: I): Promise<O>;
  /**
   * An operation as a step: answers its result once it has succeeded, and fails as it fails. What it did is undone by `inverse`, another
   * operation; without one it stays, whatever becomes of this one. Past the point of no return it has to succeed as every step does, unless it
   * `mayFail`.
   */
  child: Begins extends true
    ? (request: ChildRequest & { inverse?: ChildRequest; mayFail?: boolean }) => Promise<unknown>
    : never;
  /** A step that says what a person is to do, and lasts until that is said to be done; its undo says that nothing is waited for any more. */
  wait<I>(ref: StepRef<I, void, Names>, input: I): Promise<void>;
  /** What a failure of a step is told as. */
  problemOf(error: unknown): OperationProblem;
  /** The point of no return: from here on the workflow only goes forward. */
  commit: Commits extends true ? () => void : never;
}

/**
 * An operator's answer to an operation that is stuck. `question` is the number that the operation's error tells of what it asks; null for one
 * that got stuck before questions had numbers, and is its present one. Ends when the operation goes on.
 */
export interface Answer {
  verb: 'retry' | 'skip';
  question: number | null;
}
export const answerUpdate = defineUpdate<void, [Answer]>('answer');
/** The same from the web page of Temporal: each names the index of the step that it is for. */
export const retrySignal = defineSignal<[step?: number]>('retry');
export const skipSignal = defineSignal<[step?: number]>('skipStep');
/** A person has done what the operation waits for. Ends when it goes on. */
export const continueUpdate = defineUpdate<void>('continue');
/** A cancel that the workflow itself answers: taken, the operation ends cancelled; refused, nothing is different. */
export const cancelUpdate = defineUpdate<void>('cancel');

/** Typed names of an area's steps: `refs<typeof volumes>('volumes', 'host')`. The workflow bundle contains no activity code. */
export function stepsOf<Area, N extends string = string>(
  area: N,
  where: Where,
  special: { [K in keyof Area]?: Partial<StepOptions> } = {},
): StepsOf<Area, N> {
  return new Proxy(
    {},
    {
      get: (_, key) => ({
        name: `${area}.${String(key)}`,
        where,
        deadlineSeconds: 60,
        ...special[key as keyof Area],
      }),
    },
  ) as StepsOf<Area, N>;
}

type StepsOf<Area, N extends string> = {
  [K in keyof Area & string]: Area[K] extends StepPair<infer I, infer O> ? StepRef<I, O, `${N}.${K}`> : never;
};

type Activities = Record<string, (input: unknown, place: StepPlace) => Promise<unknown>>;

/** Temporal takes 2,048 bytes of a search attribute: this many ids. Work on more hosts is found by its operation. */
const namedHosts = 40;

/** Between further attempts of what must succeed: an undo, or a step after the point of no return. */
const forwardPauses = ['1 s', '2 s', '5 s'] as const;

const recordRetry = { initialInterval: '200 ms', maximumInterval: '5 s', maximumAttempts: 120 } as const;
const remoteRetry = {
  initialInterval: '500 ms',
  backoffCoefficient: 2,
  maximumInterval: '10 s',
  maximumAttempts: 6,
} as const;

const records = proxyLocalActivities<Activities>({ startToCloseTimeout: '15 s', retry: recordRetry });

/** The saga's own records are written however long the database is away: an operation that ended without them would hold its locks for ever. */
const bookkeeping = proxyLocalActivities<Activities>({
  startToCloseTimeout: '15 s',
  retry: { initialInterval: '200 ms', maximumInterval: '5 s' },
});

/**
 * The same through Temporal's history, which has all that was done beside it by then. What is beside it may be done again by another worker, and had to come to
 * the same then.
 */
function throughHistory(name: string, input: unknown, place: StepPlace, summary?: string): Promise<unknown> {
  const activities = proxyActivities<Activities>({
    startToCloseTimeout: '15 s',
    heartbeatTimeout: '10 s',
    retry: { initialInterval: '200 ms', maximumInterval: '5 s' },
    taskQueue: 'control',
    ...(summary ? { summary } : {}),
  });
  const activity = activities[`operations.${name}`];
  if (!activity) throw ApplicationFailure.nonRetryable(`no step named operations.${name}`, 'INTERNAL');
  return activity(input, place);
}

/** A child changes what whoever began it has looked at. */
const acceptChild = (place: StepPlace, input: Record<string, unknown>, type: string): Promise<unknown> =>
  throughHistory('acceptChild', input, place, type);

function remote(ref: StepOptions & { name: string }, input: unknown, suffix: '' | '.undo'): Activities {
  const options: ActivityOptions = {
    startToCloseTimeout: `${ref.deadlineSeconds} s`,
    retry: { ...remoteRetry, ...(ref.attempts ? { maximumAttempts: ref.attempts } : {}) },
    // A step is shown by its own name.
    ...(suffix ? { summary: `undo ${ref.name}` } : {}),
    cancellationType: ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    // Every worker heartbeats for its steps; the death of one is noticed long before the deadline.
    heartbeatTimeout: '10 s',
    taskQueue: ref.where === 'host' ? hostQueue((input as { hostId: string }).hostId) : 'control',
  };
  return proxyActivities<Activities>(options);
}

function ask(
  ref: StepOptions & { name: string },
  suffix: '' | '.undo',
  input: unknown,
  place: StepPlace,
): Promise<unknown> {
  const name = ref.name + suffix;
  const activity = (ref.where === 'record' ? records : remote(ref, input, suffix))[name];
  if (!activity) throw ApplicationFailure.nonRetryable(`no step named ${name}`, 'INTERNAL');
  return activity(input, place);
}

/** What the client is told of a failure: code, message, step, host; never a stack trace. */
function problemOf(error: unknown, step: string | null): OperationProblem {
  if (isCancellation(error)) return { code: 'CANCELLED', message: 'cancelled on request', step };
  const cause = error instanceof ActivityFailure || error instanceof ChildWorkflowFailure ? error.cause : error;
  if (cause instanceof ApplicationFailure) {
    const details = (cause.details?.[0] ?? {}) as Partial<OperationProblem>;
    return { ...details, code: cause.type ?? 'INTERNAL', message: cause.message, step };
  }
  if (cause instanceof Error && /timeout/i.test(cause.name))
    return { code: 'TIMEOUT', message: `${step ?? 'the operation'} used up its time`, step };
  return { code: 'INTERNAL', message: cause instanceof Error ? cause.message : String(cause), step };
}

/**
 * The operation is over already, so the run ends as it did. A message may come in just as a run ends: then Temporal has its last piece done anew, without what was done
 * beside its history.
 */
class Ended extends Error {
  readonly how: Begun;

  constructor(how: Begun) {
    super('the operation has ended');
    this.how = how;
  }
}

function refuseEnded(answer: unknown): void {
  const how = answer as Begun | null | undefined;
  if (how?.ended || how?.refused) throw new Ended(how);
}

function asItEnded<T>({ refused, ended }: Begun): T {
  if (refused) throw ApplicationFailure.nonRetryable(refused.message, refused.code, refused);
  return ended?.result as T;
}

interface Undo {
  report: StepReport;
  undo: () => Promise<unknown>;
}

/**
 * Runs `body` as the operation whose id is this workflow's id. Returns what `body` returns, which becomes the operation's result.
 * Fails the workflow when the operation failed, after everything was undone.
 */
export async function saga<T>(body: (step: Step) => Promise<T>): Promise<T> {
  const operationId = workflowInfo().workflowId;
  const steps: StepReport[] = [];
  const undos: Undo[] = [];
  const running = new Set<Promise<unknown>>();
  const hosts = new Set<string>();
  const scope = new CancellationScope({ cancellable: true });
  let committed = false;
  let unwinding = false;
  let cancelled = false;
  /** How many questions this run has asked an operator, and how many of those were answered. It asks one at a time. */
  let questions = 0;
  let answered = 0;
  const answers = new Map<number, Answer['verb']>();
  const signalled = new Map<number, Answer['verb']>();
  /** The answer of a signal without a step's number. Only runs that began before signals carried that number use it. */
  let nameless: Answer['verb'] | undefined;
  let lastAsked: Promise<unknown> = Promise.resolve();
  let failedStep: string | null = null;

  const signal =
    (verb: Answer['verb']) =>
    (step?: number): void => {
      if (step === undefined) nameless = verb;
      else signalled.set(step, verb);
    };
  setHandler(retrySignal, signal('retry'));
  setHandler(skipSignal, signal('skip'));
  const refuseLateAnswer = ({ question }: Answer): void => {
    const about = question ?? questions;
    if (about <= answered || answers.has(about))
      throw ApplicationFailure.nonRetryable('what it asked has been answered', 'INVALID_STATE');
  };
  setHandler(
    answerUpdate,
    async (answer) => {
      // Two may have been let in at once.
      refuseLateAnswer(answer);
      const about = answer.question ?? questions;
      answers.set(about, answer.verb);
      await condition(() => answered >= about);
    },
    { validator: refuseLateAnswer },
  );
  /** Those that wait for a person: whoever says that it is done says it to all of them. */
  const waiting = new Set<{ isDone: boolean }>();
  let waits = 0;
  setHandler(
    continueUpdate,
    async () => {
      const these = [...waiting];
      for (const one of these) one.isDone = true;
      await condition(() => these.every((one) => !waiting.has(one)));
    },
    {
      validator: () => {
        if (![...waiting].some(({ isDone }) => !isDone))
          throw ApplicationFailure.nonRetryable('it waits for nobody', 'INVALID_STATE');
      },
    },
  );
  const refuseLateCancel = (): void => {
    if (committed)
      throw ApplicationFailure.nonRetryable('it is past its point of no return and will finish', 'CANCEL_TOO_LATE');
    if (unwinding && !cancelled)
      throw ApplicationFailure.nonRetryable('it has failed and is being undone', 'INVALID_STATE');
  };
  setHandler(
    cancelUpdate,
    () => {
      refuseLateCancel();
      scope.cancel();
    },
    { validator: refuseLateCancel },
  );
  setHandler(cancelSignal, () => {
    if (!committed && !unwinding) scope.cancel();
  });

  const rounds = new Map<number, number>();
  function roundOf({ index }: StepReport): number {
    const round = (rounds.get(index) ?? 0) + 1;
    rounds.set(index, round);
    return round;
  }
  /** Turns are counted in the order in which the workflow asks. Those that still run, by step. */
  let turns = 0;
  const open = new Map<StepReport, { turn: number; where: Where }>();
  /** Those that have ended beside the workflow, with the length of the history then: only a longer one tells of their end. */
  const untold = new Map<number, number>();
  /** Asked for once per round, so that whoever is sent a late try of a step can tell it from a newer one, and from what follows. */
  const placeOf = ({ where }: StepOptions, report: StepReport): StepPlace => {
    const { index } = report;
    const round = roundOf(report);
    ended(report);
    const turn = turns++;
    open.set(report, { turn, where });
    for (const [known, length] of untold) if (length < workflowInfo().historyLength) untold.delete(known);
    // Another worker that takes over knows nothing of what is untold, and does it again: so that is not said to have ended.
    const since = Math.min(...[...open.values()].map((one) => one.turn), ...untold.keys());
    return {
      index,
      committed,
      ...(round > 1 ? { round } : {}),
      turn,
      since,
    };
  };
  function ended(report: StepReport): void {
    const known = open.get(report);
    if (known === undefined) return;
    open.delete(report);
    if (known.where === 'record') untold.set(known.turn, workflowInfo().historyLength);
  }

  /** Index -1: neither faults nor live step events are for the saga's own records. */
  function record(name: string, input: Record<string, unknown> = {}): Promise<unknown> {
    const activity = bookkeeping[`operations.${name}`];
    if (!activity) throw ApplicationFailure.nonRetryable(`no step named operations.${name}`, 'INTERNAL');
    return CancellationScope.nonCancellable(() => activity({ operationId, ...input }, { index: -1, committed }));
  }

  const runChild = childRuns(record, (asked) =>
    acceptChild({ index: -1, committed }, { operationId, ...asked }, asked.request.type),
  );

  /** Says that the operation is stuck, and waits for an operator. One step asks at a time: an answer is for the step it was given for. */
  async function askOperator(report: StepReport, problem: OperationProblem): Promise<'retry' | 'skip'> {
    const before = lastAsked;
    const asked = (async () => {
      await before;
      const isNamed = patched('answers name their step');
      questions += 1;
      // An answer may come in with the very event that made the step fail for good, when a worker died between: so they are looked up.
      const given = (): Answer['verb'] | undefined =>
        answers.get(questions) ?? signalled.get(report.index) ?? (isNamed ? undefined : nameless);
      report.error = problem;
      const question = { ...problem, stepIndex: report.index, question: questions };
      refuseEnded(await record('stuck', { steps, problem: question, committed }));
      await condition(() => given() !== undefined);
      const verb = given() ?? 'retry';
      report.error = null;
      await record('resume', {
        steps,
        rollingBack: !committed,
        skipped: verb === 'skip' ? report.name : null,
        question: questions,
      });
      // Whatever else was said until now was about this question.
      signalled.delete(report.index);
      nameless = undefined;
      answered = questions;
      return verb;
    })();
    lastAsked = asked;
    return asked;
  }

  /** Tries until it works or an operator skips it. Answers undefined for a skipped one. */
  async function insist(report: StepReport, attempt: () => Promise<unknown>): Promise<unknown> {
    for (let failures = 0; ; failures++) {
      try {
        return await attempt();
      } catch (error) {
        const problem = problemOf(error, report.name);
        // There is no other way but this one, so even what looks permanent is tried again before a person is asked; not so what says that it has tried for long.
        const pause = problem.triedEnough ? undefined : forwardPauses[failures];
        if (pause !== undefined) {
          await sleep(pause);
          continue;
        }
        if ((await askOperator(report, problem)) === 'skip') {
          report.state = 'skipped';
          return undefined;
        }
      }
    }
  }

  async function perform(
    report: StepReport,
    attempt: () => Promise<unknown>,
    undo?: () => Promise<unknown>,
    mayFail = false,
  ): Promise<unknown> {
    try {
      let result: unknown;
      if (committed)
        result = await CancellationScope.nonCancellable(() => (mayFail ? attempt() : insist(report, attempt)));
      else {
        if (undo) undos.push({ report, undo });
        result = await attempt();
      }
      if (report.state === 'running') report.state = 'done';
      return result;
    } catch (error) {
      failedStep ??= report.name;
      report.state = 'failed';
      report.error = problemOf(error, report.name);
      throw error;
    } finally {
      ended(report);
      report.endedAt = instantAt(new Date(Date.now()));
    }
  }

  // Temporal records a stack trace for every promise, which costs time. So a step is one promise, and not several that wait for each other.
  function begin(name: string, perform: (report: StepReport) => Promise<unknown>): Promise<unknown> {
    // A branch that runs beside a failed one may try to begin another step. Nobody would undo that step, so it is refused.
    if (unwinding || (!committed && scope.consideredCancelled)) {
      const refused = Promise.reject(new CancelledFailure('cancelled on request'));
      refused.catch(() => {});
      return refused;
    }
    const report: StepReport = {
      index: steps.length,
      name,
      state: 'running',
      attempts: 1,
      startedAt: instantAt(new Date(Date.now())),
      endedAt: null,
      error: null,
    };
    steps.push(report);
    const outcome = perform(report);
    running.add(outcome);
    const over = (): void => {
      running.delete(outcome);
    };
    // Also of a failure: a body that failed elsewhere no longer waits for this one; unheard, its end would hold the workflow up for ever.
    outcome.then(over, over);
    return outcome;
  }

  const step = ((ref: StepRef<unknown, unknown>, input: unknown): Promise<unknown> =>
    begin(ref.name, (report) => {
      const hostId = ref.where === 'host' ? (input as { hostId: string }).hostId : undefined;
      if (hostId && !hosts.has(hostId) && hosts.size < namedHosts) {
        hosts.add(hostId);
        upsertSearchAttributes([{ key: belayHost, value: [...hosts] }]);
      }
      return perform(
        report,
        () => ask(ref, '', input, placeOf(ref, report)),
        () => ask(ref, '.undo', input, placeOf(ref, report)),
      );
    })) as Step;
  step.earlier = step;
  step.wait = (ref, input) =>
    begin(ref.name, (report) => {
      const sayNoMore = (): Promise<unknown> => ask(ref, '.undo', input, placeOf(ref, report));
      return perform(
        report,
        async () => {
          const one = { isDone: false };
          waiting.add(one);
          waits += 1;
          try {
            await ask(ref, '', input, placeOf(ref, report));
            await condition(() => one.isDone);
            await sayNoMore();
          } finally {
            waiting.delete(one);
          }
        },
        sayNoMore,
      );
    }) as Promise<void>;
  step.child = ({ inverse, mayFail, ...request }) =>
    begin(request.type, (report) => {
      const next = (of: ChildRequest): Promise<unknown> =>
        runChild(report, `${report.index}.${roundOf(report)}`, of, committed || unwinding);
      const run = async (): Promise<unknown> => {
        const result = await next(request);
        // A child that has not succeeded has undone itself.
        if (inverse && !committed) undos.push({ report, undo: () => next(inverse) });
        return result;
      };
      return perform(report, run, undefined, mayFail);
    });
  step.problemOf = (error) => problemOf(error, failedStep);
  step.commit = () => {
    if (committed) return;
    // A cancel that was taken holds, even if the step that it met has succeeded: what was done is undone.
    if (unwinding || scope.consideredCancelled) throw new CancelledFailure('cancelled on request');
    // A step that still runs could fail, and then there would be neither a way forward nor a way back.
    if (running.size > 0)
      throw ApplicationFailure.nonRetryable('a step still runs at the point of no return', 'INTERNAL');
    committed = true;
  };

  /** Who answered a question must hear that the operation has gone on before it ends. */
  async function allHeard(): Promise<void> {
    if (questions + waits > 0) await CancellationScope.nonCancellable(() => condition(allHandlersFinished));
  }

  async function unwind(error: unknown): Promise<void> {
    // A sibling that still runs must have ended before its undo may start.
    unwinding = true;
    cancelled = scope.consideredCancelled;
    scope.cancel();
    await Promise.allSettled([...running]);
    const problem = problemOf(cancelled ? new CancelledFailure('cancelled on request') : error, failedStep);
    // A worker that takes over does again what the history does not tell yet. A step that failed may succeed then, and the operation would go on, though its
    // record says that it is undone. So the history comes first.
    const isUntold = [...untold.values()].some((length) => length >= workflowInfo().historyLength);
    const told = { steps, problem };
    refuseEnded(
      await (isUntold && patched('a failure is in the history before the record')
        ? throughHistory('rollBack', { operationId, ...told }, { index: -1, committed })
        : record('rollBack', told)),
    );
    for (const { report, undo } of undos.reverse()) {
      const failed = report.error;
      report.state = 'undoing';
      await insist(report, undo);
      ended(report);
      if (report.state === 'undoing') report.state = 'undone';
      report.error = failed;
      report.endedAt = instantAt(new Date(Date.now()));
    }
    await record('fail', { steps, problem, cancelled });
    await allHeard();
    throw ApplicationFailure.nonRetryable(problem.message, problem.code, problem);
  }

  const begun = (await record('begin')) as Begun;
  if (begun.refused || begun.ended) return asItEnded(begun);

  let result: T;
  try {
    result = await scope.run(async () => {
      const answered = await body(step);
      // What the body did not wait for belongs to the operation all the same.
      await Promise.all([...running]);
      // Of a workflow without a point of no return, this is it: what follows tells of a success.
      step.commit();
      return answered;
    });
  } catch (error) {
    if (error instanceof Ended) return asItEnded(error.how);
    // After the point of no return steps are tried again until they succeed, so only a fault in the workflow's own code leads here. The run stops at
    // this task and keeps its locks until a worker with corrected code goes on with it.
    if (committed) throw new Error(`failed after the point of no return: ${problemOf(error, failedStep).message}`);
    return await CancellationScope.nonCancellable(async () => {
      try {
        await unwind(error);
      } catch (end) {
        if (end instanceof Ended) return asItEnded<T>(end.how);
        throw end;
      }
      throw error;
    });
  }
  await record('succeed', { steps, result: result ?? null });
  await allHeard();
  return result;
}
