/** The saga by itself, on a real Temporal server with steps that only remember what was asked of them. */
import { fileURLToPath } from 'node:url';
import { Connection, Client as TemporalClient, type WorkflowHandle } from '@temporalio/client';
import { ApplicationFailure } from '@temporalio/common';
import { msToTs } from '@temporalio/common/lib/time.js';
import { bundleWorkflowCode, DefaultLogger, NativeConnection, Runtime, Worker } from '@temporalio/worker';
import { afterAll, beforeAll, beforeEach, expect, inject, test } from 'vitest';
import type { StepPlace } from '../../activities/step.ts';
import type * as sagas from '../support/sagas.ts';

const address = inject('cloud').temporalAddress;
const namespace = `saga-${crypto.randomUUID().slice(0, 8)}`;

/** Calls in their order, such as `held`, `held.undo`, `operations.fail`. */
let asked: string[];
/** What was asked of an operator. */
let questions: { stepIndex: number; question: number }[];
let letGo: () => void;
let held: Promise<void>;
/** Steps that fail for good while they are in here. */
let broken: Set<string>;

/** What came of the operation, once its record says so. */
let over: { refused: unknown; ended?: { result: unknown } } | undefined;
/** What happens just as the run is about to end. */
let atTheEnd: (() => Promise<unknown>) | undefined;
/** What happens just before its record says that it is undone. */
let atRollBack: (() => Promise<unknown>) | undefined;

beforeEach(() => {
  over = undefined;
  atTheEnd = undefined;
  atRollBack = undefined;
  asked = [];
  broken = new Set();
  questions = [];
  held = new Promise((resolve) => {
    letGo = resolve;
  });
});

const steps = ['held', 'first', 'second', 'fails', 'kept'];
const bookkeeping = ['begin', 'succeed', 'fail', 'rollBack', 'stuck', 'resume'];
const activities = Object.fromEntries([
  ...steps.flatMap((name) => [
    [
      `probe.${name}`,
      async (): Promise<void> => {
        asked.push(name);
        if (over) throw ApplicationFailure.nonRetryable(`${name} comes too late`, 'INVALID_STATE');
        // A step that has not begun when its sibling fails never does.
        if (name === 'fails') await hasAsked('held');
        if (name === 'fails' || broken.has(name))
          throw ApplicationFailure.nonRetryable(`${name} is broken`, 'INTERNAL');
        if (name === 'held') await held;
      },
    ],
    [
      `probe.${name}.undo`,
      async (): Promise<void> => {
        asked.push(`${name}.undo`);
        if (over) throw ApplicationFailure.nonRetryable(`${name}.undo comes too late`, 'INVALID_STATE');
        if (broken.has(`${name}.undo`)) throw ApplicationFailure.nonRetryable(`${name}.undo is broken`, 'INTERNAL');
      },
    ],
  ]),
  ...bookkeeping.map((name) => [
    `operations.${name}`,
    async (input: unknown, { index }: StepPlace): Promise<unknown> => {
      if (name === 'stuck') questions.push((input as { problem: (typeof questions)[number] }).problem);
      // Faults and live events are for steps; the saga's own records are none.
      if (name === 'rollBack') await atRollBack?.();
      asked.push(index === -1 ? `operations.${name}` : `operations.${name} as a step`);
      if (over && ['begin', 'rollBack', 'stuck'].includes(name)) return over;
      const { result, problem } = input as { result?: unknown; problem?: unknown };
      if (name === 'succeed') over ??= { refused: null, ended: { result } };
      if (name === 'fail') over ??= { refused: problem };
      if (over) await atTheEnd?.();
      return name === 'begin' ? { refused: null } : undefined;
    },
  ]),
]);

let temporal: TemporalClient;
let ending: () => Promise<void>;

beforeAll(async () => {
  const logger = new DefaultLogger('ERROR');
  Runtime.install({ logger });
  const connection = await Connection.connect({ address });
  await connection.workflowService.registerNamespace({
    namespace,
    workflowExecutionRetentionPeriod: msToTs('1 day'),
  });
  temporal = new TemporalClient({ connection, namespace });
  const native = await NativeConnection.connect({ address });
  const workflowBundle = await bundleWorkflowCode({
    workflowsPath: fileURLToPath(new URL('../support/sagas.ts', import.meta.url)),
    logger,
  });
  // The server learns of a new namespace some seconds later.
  const worker = await eventually(() =>
    Worker.create({ connection: native, namespace, taskQueue: 'control', workflowBundle, activities }),
  );
  const done = worker.run();
  ending = async () => {
    worker.shutdown();
    await done;
    await native.close();
    await connection.close();
  };
}, 120_000);

afterAll(() => ending?.());

/** Again until it works; the test's own time-out is the bound. */
async function eventually<T>(attempt: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await attempt();
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
  }
}

const start = (name: keyof typeof sagas): Promise<WorkflowHandle> =>
  eventually(() => temporal.workflow.start(name, { taskQueue: 'control', workflowId: crypto.randomUUID(), args: [] }));

async function hasAsked(name: string, times = 1): Promise<void> {
  while (asked.filter((one) => one === name).length < times) await new Promise((resolve) => setTimeout(resolve, 20));
}

/** The workflow has learnt of the failure: it has asked the step that still runs to end. */
async function asksToEnd(handle: WorkflowHandle): Promise<void> {
  const has = async (): Promise<boolean> =>
    ((await handle.fetchHistory()).events ?? []).some((event) => event.activityTaskCancelRequestedEventAttributes);
  while (!(await has())) await new Promise((resolve) => setTimeout(resolve, 20));
}

test('a branch begins nothing more once its sibling has failed', async () => {
  const handle = await start('branchGoesOn');
  await hasAsked('held');
  await asksToEnd(handle);
  letGo();
  await expect(handle.result()).rejects.toThrow();
  expect(asked).not.toContain('first');
  expect(asked).not.toContain('first.undo');
  expect(asked.slice(-4)).toEqual(['operations.rollBack', 'fails.undo', 'held.undo', 'operations.fail']);
});

test('of two steps that are stuck at once, an answer is for the one that asked', async () => {
  broken = new Set(['first', 'second']);
  const handle = await start('failsTwiceForward');
  await hasAsked('operations.stuck');
  await handle.executeUpdate('answer', { args: [{ verb: 'skip', question: 1 }] });
  // Whoever said it hears of it when the operation goes on.
  expect(asked).toContain('operations.resume');
  await hasAsked('operations.stuck', 2);
  // All of these come too late for the first, and are no answer to the second.
  const late = handle.executeUpdate('answer', { args: [{ verb: 'skip', question: 1 }] });
  await expect(late).rejects.toMatchObject({ cause: { type: 'INVALID_STATE' } });
  await handle.signal('skipStep', questions[0]?.stepIndex);
  await handle.signal('skipStep');
  broken.clear();
  await handle.executeUpdate('answer', { args: [{ verb: 'retry', question: 2 }] });
  await handle.result();
  expect(questions.map(({ question }) => question)).toEqual([1, 2]);
  const told = asked.filter((name) => name.startsWith('operations.'));
  expect(told).toEqual([
    'operations.begin',
    'operations.stuck',
    'operations.resume',
    'operations.stuck',
    'operations.resume',
    'operations.succeed',
  ]);
  // One was skipped: only the other was done once more.
  expect(asked.filter((name) => name === 'first' || name === 'second')).toHaveLength(9);
}, 60_000);

test('a signal from the web page of Temporal names the step that it is for', async () => {
  broken = new Set(['first', 'second']);
  const handle = await start('failsTwiceForward');
  for (const turn of [1, 2]) {
    await hasAsked('operations.stuck', turn);
    await handle.signal('skipStep', questions[turn - 1]?.stepIndex);
  }
  await handle.result();
  expect(asked.filter((name) => name === 'first' || name === 'second')).toHaveLength(8);
}, 60_000);

test('a cancel from the web page of Temporal undoes what was done', async () => {
  const handle = await start('oneAfterTheOther');
  await hasAsked('held');
  await handle.cancel();
  letGo();
  await expect(handle.result()).rejects.toThrow();
  expect(asked).not.toContain('first');
  expect(asked.slice(-3)).toEqual(['operations.rollBack', 'held.undo', 'operations.fail']);
});

test('after the point of no return not even that stops it', async () => {
  const handle = await start('onlyForward');
  await hasAsked('held');
  await handle.cancel();
  letGo();
  await handle.result();
  expect(asked).toEqual(['operations.begin', 'held', 'first', 'operations.succeed']);
});

test.each(['heldOnly', 'committedBehindIt'] as const)(
  'a cancel that was taken holds although the step that it met succeeds: %s',
  async (name) => {
    const handle = await start(name);
    await hasAsked('held');
    await handle.executeUpdate('cancel');
    // Asked again it says the same.
    await handle.executeUpdate('cancel');
    letGo();
    await expect(handle.result()).rejects.toThrow();
    expect(asked).toEqual(['operations.begin', 'held', 'operations.rollBack', 'held.undo', 'operations.fail']);
  },
);

test('a cancel behind the point of no return is refused', async () => {
  const handle = await start('onlyForward');
  await hasAsked('held');
  await expect(handle.executeUpdate('cancel')).rejects.toMatchObject({ cause: { type: 'CANCEL_TOO_LATE' } });
  letGo();
  await handle.result();
  expect(asked).toEqual(['operations.begin', 'held', 'first', 'operations.succeed']);
});

test('a cancel of what is being undone after a failure is refused', async () => {
  broken = new Set(['first', 'first.undo']);
  const handle = await start('oneAfterTheOther');
  await hasAsked('held');
  letGo();
  await hasAsked('operations.stuck');
  await expect(handle.executeUpdate('cancel')).rejects.toMatchObject({ cause: { type: 'INVALID_STATE' } });
  broken.clear();
  await handle.executeUpdate('answer', { args: [{ verb: 'retry', question: 1 }] });
  await expect(handle.result()).rejects.toThrow();
}, 60_000);

test.each([
  // The last piece of the run is undone by this cancel, and done anew by the other signal.
  ['endsBesideHistory', 'cancel', 'operations.rollBack'],
  ['endsBesideHistoryForward', 'cancel', 'operations.rollBack'],
  ['endsBesideHistory', 'turn', 'operations.rollBack'],
  ['endsBesideHistoryForward', 'turn', 'operations.stuck'],
] as const)(
  'a signal that comes in just as it ends changes nothing of what came of it: %s, %s',
  async (name, signal, again) => {
    const handle = await start(name);
    await hasAsked('held');
    atTheEnd = () => {
      atTheEnd = undefined;
      return handle.signal(signal, crypto.randomUUID());
    };
    letGo();
    expect(await handle.result()).toBe('kept');
    // It was begun anew behind its end, or this would show nothing.
    expect(asked).toContain(again);
    expect(asked).not.toContain('held.undo');
    expect(asked).not.toContain('operations.fail');
  },
  60_000,
);

test('nor of what has failed', async () => {
  broken = new Set(['kept']);
  const handle = await start('endsBesideHistory');
  await hasAsked('held');
  atTheEnd = () => {
    atTheEnd = undefined;
    return handle.signal('cancel');
  };
  letGo();
  await expect(handle.result()).rejects.toMatchObject({ cause: { message: 'kept is broken' } });
  expect(asked.filter((one) => one === 'held.undo')).toHaveLength(1);
});

test('what a step beside the history has failed with is in the history before the record says that all is undone', async () => {
  broken = new Set(['kept']);
  const handle = await start('endsBesideHistory');
  await hasAsked('held');
  let known: number | undefined;
  atRollBack = async () => {
    const { events } = await handle.fetchHistory();
    known = events?.filter((event) => event.markerRecordedEventAttributes?.failure).length;
  };
  letGo();
  await expect(handle.result()).rejects.toMatchObject({ cause: { message: 'kept is broken' } });
  expect(known).toBe(1);
});
