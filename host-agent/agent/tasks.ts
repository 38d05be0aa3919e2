import type { AgentProblem } from '../problem.ts';
import { Problem } from '../problem.ts';
import type { Task, TaskName, Tasks } from '../protocol.ts';
import { toProblem } from './problem.ts';

/** What a running task gets: a signal that its caller no longer wants it, and a way to tell how far it is. */
export interface TaskContext {
  id: string;
  signal: AbortSignal;
  /** 0–100; never goes back. */
  progress(percent: number): void;
}

export type TaskHandlers = {
  [Name in TaskName]: (input: Tasks[Name]['input'], context: TaskContext) => Promise<Tasks[Name]['result']>;
};

export interface TaskRegistry {
  /** Starts the task, or answers the one that has this id. @throws Problem INVALID_ARGUMENT when the id is another task's. */
  start<Name extends TaskName>(id: string, name: Name, input: Tasks[Name]['input']): Task;
  /** Answers at once when it has ended, else when its progress changes, it ends, or the time is over. */
  wait(id: string, milliseconds: number): Promise<Task>;
  /** Asks it to stop and answers when it has. */
  cancel(id: string): Promise<Task>;
  running(): string[];
}

/** A finished task is kept for callers whose connection broke before they heard of it. */
const KEEP_FINISHED_MS = 60 * 60 * 1_000;
const KEEP_FINISHED = 500;

interface Entry {
  task: Task;
  controller: AbortController;
  ended: Promise<void>;
  endedAt: number;
  /** Wakes those who wait. */
  changed: Set<() => void>;
}

export function taskRegistry(handlers: TaskHandlers): TaskRegistry {
  const entries = new Map<string, Entry>();

  function find(id: string): Entry {
    const entry = entries.get(id);
    if (!entry)
      throw new Problem('NOT_FOUND', `there is no task ${id}; an agent that restarted has forgotten its tasks`);
    return entry;
  }

  function forgetOld() {
    const ended = [...entries].filter(([, { task }]) => task.state !== 'running');
    const surplus = ended.length - KEEP_FINISHED;
    ended.forEach(([id, entry], index) => {
      if (index < surplus || Date.now() - entry.endedAt > KEEP_FINISHED_MS) entries.delete(id);
    });
  }

  function wake(entry: Entry) {
    for (const listener of entry.changed) listener();
  }

  return {
    start(id, name, input) {
      const existing = entries.get(id);
      if (existing) {
        if (existing.task.name !== name) {
          throw new Problem('INVALID_ARGUMENT', `task ${id} is a ${existing.task.name}, not a ${name}`);
        }
        // One that failed or was cancelled is tried again; one that succeeded is done.
        if (existing.task.state === 'running' || existing.task.state === 'succeeded') return existing.task;
      }
      forgetOld();
      const controller = new AbortController();
      const task: Task = { id, name, state: 'running', progress: 0 };
      const entry: Entry = {
        task,
        controller,
        ended: Promise.resolve(),
        endedAt: 0,
        changed: existing?.changed ?? new Set(),
      };
      const end = (outcome: { state: Task['state']; result?: Task['result']; problem?: AgentProblem }) => {
        Object.assign(task, outcome, outcome.state === 'succeeded' ? { progress: 100 } : {});
        entry.endedAt = Date.now();
        wake(entry);
      };
      const context: TaskContext = {
        id,
        signal: controller.signal,
        progress(percent) {
          const rounded = Math.min(99, Math.floor(percent));
          if (rounded <= task.progress) return;
          task.progress = rounded;
          wake(entry);
        },
      };
      entries.delete(id);
      entries.set(id, entry);
      entry.ended = handlers[name](input, context).then(
        (result) => end({ state: 'succeeded', result: result as Task['result'] }),
        (error) =>
          end(controller.signal.aborted ? { state: 'cancelled' } : { state: 'failed', problem: toProblem(error) }),
      );
      return task;
    },

    async wait(id, milliseconds) {
      const entry = find(id);
      if (entry.task.state !== 'running' || milliseconds <= 0) return entry.task;
      await new Promise<void>((resolve) => {
        const done = () => {
          clearTimeout(timer);
          entry.changed.delete(done);
          resolve();
        };
        const timer = setTimeout(done, milliseconds);
        entry.changed.add(done);
      });
      return entry.task;
    },

    async cancel(id) {
      const entry = find(id);
      entry.controller.abort();
      await entry.ended;
      return entry.task;
    },

    running: () => [...entries].filter(([, { task }]) => task.state === 'running').map(([id]) => id),
  };
}
