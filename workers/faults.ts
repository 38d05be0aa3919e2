/** Faults that workers inject into steps, for drills and for the proof of rollback. Read only where the installation allows it. */
import { ApplicationFailure } from '@temporalio/common';
import type { StepContext } from '../activities/step.ts';
import type { Database } from '../database/database.ts';
import { settingOf } from '../database/settings.ts';
import { from, statement, type Values } from '../database/statement.ts';
import { config } from '../runtime/config.ts';

/** `suspend` stops the whole process right before the step sends `message` to a host, as a paused virtual machine is stopped. */
export type Fault = 'failBefore' | 'failAfter' | 'twice' | 'undoTwice' | 'die' | 'undoFails' | 'suspend';

export interface FaultRule {
  operationType?: string;
  /** Of one resource only; a create can choose its id by `requestedId`. */
  targetId?: string;
  step: string;
  fault: Fault;
  /** Of `suspend`: the call's or task's name. */
  message?: string;
  times?: number;
}

/** What rules did so far in this process; a rule with `times` is spent after so many uses. */
const used = new Map<string, number>();

async function ruleFor(
  database: Database,
  context: StepContext,
  kind: (rule: FaultRule) => boolean,
): Promise<FaultRule | null> {
  const [setting] = await settingOf(database.connections, { name: 'fault.rules' });
  const candidates = ((setting?.value ?? []) as FaultRule[]).filter((rule) => rule.step === context.step && kind(rule));
  if (candidates.length === 0) return null;
  const [operation] = await targetOf(database.connections, { id: context.operationId });
  return (
    candidates.find(
      (rule) =>
        (!rule.targetId || rule.targetId === operation?.targetId) &&
        (!rule.operationType || rule.operationType === operation?.type) &&
        (used.get(JSON.stringify(rule)) ?? 0) < (rule.times ?? Number.POSITIVE_INFINITY),
    ) ?? null
  );
}

const mark = statement((p: Values<{ operationId: string; key: string }>) =>
  from
    .insertInto('idempotencyKey')
    .values({ callerId: p.operationId, key: p.key, requestHash: '', status: 0, body: '' })
    .onConflict((at) => at.doNothing())
    .returning('key'),
);

const targetOf = statement((p: Values<{ id: string }>) =>
  from.selectFrom('operation').select(['type', 'targetId']).where('id', '=', p.id),
);

/** That a fault befell a step, for who wants to know whether it did; answers whether that is new. */
async function note(database: Database, { operationId, step, undo }: StepContext, fault: Fault): Promise<boolean> {
  const key = `${fault}/${step}/${undo ? 'undo' : 'do'}`;
  return (await mark(database.connections, { operationId, key })).length > 0;
}

/** A process is struck at most once for an operation's step: the mark is in the database, because the process, or its successor, forgets. */
async function strikeOnce(database: Database, context: StepContext, fault: 'die' | 'suspend'): Promise<void> {
  if (await note(database, context, fault)) process.kill(process.pid, fault === 'die' ? 'SIGKILL' : 'SIGSTOP');
}

/** Right before a message goes out to a host. What is sent afterwards, the worker sends when it is let go on. */
export async function beforeMessage(database: Database, context: StepContext, message: string): Promise<void> {
  if (!config.faultInjection) return;
  const rule = await ruleFor(database, context, ({ fault, message: at }) => fault === 'suspend' && at === message);
  if (rule) await strikeOnce(database, context, 'suspend');
}

const injected = (context: StepContext, when: string): ApplicationFailure =>
  ApplicationFailure.create({
    type: 'INTERNAL',
    message: `a fault rule made ${context.step} fail ${when}`,
    nonRetryable: true,
  });

/** A child is a step of its parent, named by what it does; rules strike where it is begun. All other records of the saga itself are spared. */
const asStep = (context: StepContext, input: unknown): StepContext => {
  if (context.step !== 'operations.acceptChild') return context;
  const { stepIndex, request } = input as { stepIndex: number; request: { type: string } };
  return { ...context, index: stepIndex, step: request.type };
};

/** Runs one attempt of a step, or of the beginning of a child, under the rules. */
export async function underFaults<T>(
  database: Database,
  at: StepContext,
  input: unknown,
  attempt: () => Promise<T>,
): Promise<T> {
  const context = asStep(at, input);
  if (!config.faultInjection || context.index < 0) return attempt();
  const rule = await ruleFor(database, context, ({ fault }) => (context.undo ? ofUndo : ofDo).has(fault));
  if (!rule) return attempt();
  const strike = async (): Promise<void> => {
    const key = JSON.stringify(rule);
    used.set(key, (used.get(key) ?? 0) + 1);
    await note(database, context, rule.fault);
  };
  switch (rule.fault) {
    case 'failBefore':
      await strike();
      throw injected(context, 'before it acted');
    case 'failAfter':
      await attempt();
      await strike();
      throw injected(context, 'after it acted');
    case 'undoFails':
      // Of a step that failed otherwise nothing has to be undone.
      if (!context.undo) {
        await attempt();
        throw injected(context, 'after it acted');
      }
      await strike();
      throw injected(context, 'while it was undone');
    case 'twice':
    case 'undoTwice':
      await attempt();
      await strike();
      return attempt();
    case 'die': {
      const result = await attempt();
      await strikeOnce(database, context, 'die');
      return result;
    }
    case 'suspend':
      return attempt();
  }
}

const ofDo: ReadonlySet<Fault> = new Set(['failBefore', 'failAfter', 'undoFails', 'twice', 'die']);
const ofUndo: ReadonlySet<Fault> = new Set(['undoFails', 'undoTwice']);
