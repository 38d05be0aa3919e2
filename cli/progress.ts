/** An operation, live: its steps on standard error as they go, and at the end what came of it. */
import { answerOf, hasEnded, type Operation, waitOperation } from './client.ts';
import { Failed } from './exit-codes.ts';
import { partsOfFailure } from './outcome.ts';
import { valueAt } from './output.ts';
import type { Session } from './session.ts';
import { painter, printable, type Style, type Terminal } from './terminal.ts';

interface Step {
  name: string;
  state: string;
  attempts?: number;
  startedAt?: string | null;
  endedAt?: string | null;
  /** The operation that the step is, where it is one. */
  operationId?: string;
}

const marks: Record<string, [string, Style]> = {
  done: ['✓', 'green'],
  failed: ['✗', 'red'],
  undone: ['↩', 'yellow'],
  skipped: ['–', 'yellow'],
};

/** So far down are the operations told that operations begin. */
const deepest = 5;

const secondsBetween = (from: unknown, to: unknown): number | null => {
  const milliseconds = Date.parse(String(to)) - Date.parse(String(from));
  return Number.isFinite(milliseconds) ? Math.max(0, milliseconds / 1000) : null;
};

const spokenSeconds = (seconds: number | null): string =>
  seconds === null
    ? ''
    : seconds < 60
      ? `${seconds.toFixed(1)} s`
      : `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;

const stepsOf = (operation: Operation): Step[] =>
  ((operation.steps ?? []) as unknown[]).filter(
    (step): step is Step => typeof valueAt(step, 'name') === 'string' && typeof valueAt(step, 'state') === 'string',
  );

export interface Progress {
  update(operation: Operation): Promise<void>;
  /** Takes the line of what is going on away. */
  end(): void;
}

/** An operation by its id, to tell of what a step began; null when it can not be read. */
export type LookUp = (id: string) => Promise<Operation | null>;

/**
 * Each step gets a line when it has ended, and below it those of the operation that it began, if it is one; what runs stands in a last line that is
 * written over, on terminals only.
 */
export function showProgress(
  { stderr, env }: Pick<Terminal, 'stderr' | 'env'>,
  lookUp: LookUp = async () => null,
): Progress {
  const paint = painter(stderr, env);
  const live = stderr.isTTY === true && env.TERM !== 'dumb';
  const told = new Map<number, string>();
  let standing = false;
  const clear = (): void => {
    if (standing) stderr.write('\r\u001b[K');
    standing = false;
  };
  async function tell(step: Step, depth: number): Promise<void> {
    const mark = marks[step.state];
    if (!mark) return;
    const child = step.operationId && depth < deepest ? await lookUp(step.operationId) : null;
    const time = step.state === 'done' ? spokenSeconds(secondsBetween(step.startedAt, step.endedAt)) : step.state;
    const attempts = (step.attempts ?? 1) > 1 ? `, attempt ${step.attempts}` : '';
    const about = child ? ` of ${printable(String(child.targetId))}` : '';
    stderr.write(
      `${'  '.repeat(depth + 1)}${paint(mark[1], mark[0])} ${printable(step.name)}${about} ${paint('dim', `${time}${attempts}`)}`
        .trimEnd()
        .concat('\n'),
    );
    if (child) for (const below of stepsOf(child)) await tell(below, depth + 1);
  }
  return {
    async update(operation) {
      clear();
      const steps = stepsOf(operation);
      for (const [index, step] of steps.entries()) {
        if (!marks[step.state] || told.get(index) === step.state) continue;
        told.set(index, step.state);
        await tell(step, 0);
      }
      if (!live || hasEnded(operation)) return;
      const now = steps.filter(({ state }) => state === 'running' || state === 'undoing');
      const names = now.map(({ name, state, attempts = 1 }) =>
        [state === 'undoing' ? 'undoing' : '', name, attempts > 1 ? `(attempt ${attempts})` : '']
          .filter(Boolean)
          .join(' '),
      );
      const percent = operation.progress ? ` ${operation.progress} %` : '';
      const line = `  … ${names.map(printable).join(', ') || operation.state}${percent}`;
      stderr.write(line.slice(0, (stderr.columns ?? 80) - 1));
      standing = true;
    },
    end: clear,
  };
}

/** What an operation came to, in one line; with the reason, the step and what to do when it went wrong. */
export function summaryOf(operation: Operation): string {
  const { state, type, targetId, id } = operation;
  const time = spokenSeconds(secondsBetween(operation.createdAt, operation.endedAt));
  const head = `${type} of ${targetId} ${state === 'stuck' ? 'is stuck' : state}${time ? ` after ${time}` : ''}`;
  if (state === 'succeeded') return `${head}, as operation ${id}`;
  const [code, message, step, host] = ['code', 'message', 'step', 'host'].map((name) => {
    const value = valueAt(operation.error, name);
    return typeof value === 'string' && value !== '' ? value : null;
  });
  const reason = message || code ? `error: ${message ?? 'no reason was given'}${code ? ` (${code})` : ''}` : null;
  const where = step ? `  step: ${step}${host ? ` on host ${host}` : ''}` : null;
  const next =
    state === 'stuck'
      ? `  its locks stay held; when the cause is gone: belay operations retry ${id}\n  or give the step up: belay operations skip-step ${id} --reason …`
      : `  operation: ${id}`;
  return [head, reason, where, next].filter(Boolean).join('\n');
}

/** Waits with live progress and tells the end. Throws Failed unless it succeeded. */
export async function watchOperation(session: Session, id: string, timeoutSeconds?: number): Promise<Operation> {
  const { terminal } = session;
  const client = session.client();
  const progress = showProgress(terminal, (child) =>
    answerOf<Operation>(client.GET('/v1/operations/{id}', { params: { path: { id: child } } })).catch(() => null),
  );
  let operation: Operation;
  try {
    operation = await waitOperation(client, id, progress.update, {
      signal: terminal.signal,
      ...(timeoutSeconds === undefined ? {} : { timeoutSeconds }),
    });
  } catch (error) {
    progress.end();
    if (terminal.signal.aborted) session.tell(`the operation goes on: belay operations watch ${id}`);
    throw error;
  }
  progress.end();
  const summary = summaryOf(operation);
  if (operation.state !== 'succeeded')
    throw new Failed([summary, (await partsOfFailure(session, operation)).trimEnd()].filter(Boolean).join('\n'));
  session.tell(summary);
  return operation;
}
