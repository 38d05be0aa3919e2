/**
 * A run of maintenance: what a Temporal Schedule of the platform's own begins. It is no operation, so nothing of it is undone; the operations that
 * it begins are, each by itself. Their runs are children of this one, so that Temporal's page leads from one to the other.
 */
import {
  ChildWorkflowCancellationType,
  condition,
  ParentClosePolicy,
  patched,
  proxyActivities,
  startChild,
  workflowInfo,
} from '@temporalio/workflow';
import type { StepPlace } from '../activities/step.ts';
import type { StartOperation } from '../model/platform/operation.ts';
import { hostQueue } from '../model/shards.ts';
import { runOptions, workflowName } from '../temporal/run.ts';
import type { StepRef } from './saga.ts';
import { audits, maintenances } from './steps.ts';

type Activities = Record<string, (input: unknown, place: StepPlace) => Promise<unknown>>;

/** A run that fails has its turn again soon. */
const retry = { initialInterval: '500 ms', backoffCoefficient: 2, maximumInterval: '10 s', maximumAttempts: 3 };

/** Asks for a piece of the work. */
export async function ask<I, O>({ name, deadlineSeconds, where }: StepRef<I, O>, input: I): Promise<O> {
  const activity = proxyActivities<Activities>({
    startToCloseTimeout: `${deadlineSeconds} s`,
    heartbeatTimeout: '10 s',
    taskQueue: where === 'host' ? hostQueue((input as { hostId: string }).hostId) : 'control',
    retry,
  })[name];
  if (!activity) throw new Error(`no step named ${name}`);
  return (await activity(input, { index: -1, committed: false })) as O;
}

/**
 * Runs an operation that was accepted, and waits for its end, `atMost` so long. One that fails has undone itself, and is looked at by whoever reads
 * operations.
 */
export async function follow(start: StartOperation, atMost?: '1 minute'): Promise<void> {
  try {
    const child = await startChild(workflowName(start.type), {
      ...runOptions(start),
      parentClosePolicy: ParentClosePolicy.ABANDON,
      cancellationType: ChildWorkflowCancellationType.ABANDON,
    });
    const ended = child.result().catch(() => {});
    if (atMost === undefined || !patched('waits no longer than a minute')) return await ended;
    let hasEnded = false;
    void ended.then(() => {
      hasEnded = true;
    });
    await condition(() => hasEnded, atMost);
  } catch (error) {
    // The dispatcher was faster.
    if (!(error instanceof Error && error.name === 'WorkflowExecutionAlreadyStartedError')) throw error;
  }
}

/**
 * Runs several at once. One of them that takes long, or is stuck, keeps neither the others nor the next run of the same maintenance from going on: it
 * ends by itself.
 */
export async function followAll(begun: readonly StartOperation[]): Promise<void> {
  await Promise.all(begun.map((start) => follow(start, '1 minute')));
}

/** Begins the repair of what these systems differ in and is repaired without asking, and waits for it. */
export async function repairFound(systems: string[]): Promise<void> {
  const { begun } = await ask(audits.begin, { systems });
  await followAll(begun);
}

/** So many operations in one run: its history stays short, and the next run goes on. */
const mostInRun = 500;

/** Page after page: what each begins runs side by side, until nothing is left, or the run has begun enough. */
export async function followPages(
  page: (after: string | null) => Promise<{ begun: StartOperation[]; after: string | null }>,
): Promise<void> {
  let count = 0;
  let after: string | null = null;
  do {
    const { begun, after: next } = await page(after);
    await followAll(begun);
    count += begun.length;
    after = next;
  } while (after !== null && count < mostInRun);
}

/** Again while there is more, so often at the most. */
export async function untilDone(work: () => Promise<boolean>): Promise<void> {
  for (let round = 0; round < mostInRun && (await work()); round++);
}

/** The whole of a run. */
export async function maintain(body: () => Promise<unknown>): Promise<void> {
  const name = workflowInfo().workflowType;
  try {
    await body();
  } catch (error) {
    await ask(maintenances.ended, { name, outcome: 'failed' });
    throw error;
  }
  await ask(maintenances.ended, { name, outcome: 'succeeded' });
}
