/** The long work of a simulated host. A task has its caller's id: whoever asks again attaches to it. */
import type { TaskName, Tasks } from '../../../host-agent/protocol.ts';
import { problemOf, refuse } from '../problem.ts';
import { tasks } from './calls.ts';
import type { Host, LiveTask, Run } from './host.ts';

/** Ended tasks a host remembers, so that a late question still finds its answer. */
const rememberedTasks = 64;

/** Starts the task or attaches to the running or succeeded one of that id. `finished` runs after the work, before the task ends: a place for faults. */
export function startTask(
  host: Host,
  id: string,
  name: TaskName,
  input: unknown,
  finished: (signal: AbortSignal) => Promise<unknown> | undefined,
): LiveTask {
  const known = host.tasks.get(id);
  if (known && known.task.name !== name)
    throw refuse('INVALID_ARGUMENT', `Task ${id} is a ${known.task.name}, not a ${name}`);
  // One that failed or was cancelled is tried again; one that succeeded is done.
  if (known?.task.state === 'running' || known?.task.state === 'succeeded') return known;
  const live: LiveTask = {
    task: { id, name, state: 'running', progress: 0 },
    abort: new AbortController(),
    watchers: new Set(),
  };
  host.tasks.set(id, live);
  forgetOldest(host);
  const { signal } = live.abort;
  const run: Run = {
    signal,
    progress(percent) {
      if (percent === live.task.progress) return;
      live.task.progress = percent;
      wake(live);
    },
  };
  const work = (tasks[name] as (host: Host, input: unknown, run: Run) => Promise<Tasks[TaskName]['result']>)(
    host,
    input,
    run,
  );
  work
    .then(async (result) => {
      await finished(signal);
      Object.assign(live.task, { state: 'succeeded', progress: 100, result });
    })
    .catch((error: unknown) => {
      if (signal.aborted) live.task.state = 'cancelled';
      else Object.assign(live.task, { state: 'failed', problem: problemOf(error) });
    })
    .finally(() => wake(live));
  return live;
}

function wake(live: LiveTask): void {
  for (const watcher of live.watchers) watcher();
  live.watchers.clear();
}

function forgetOldest(host: Host): void {
  if (host.tasks.size <= rememberedTasks) return;
  for (const [id, { task }] of host.tasks) {
    if (task.state !== 'running') host.tasks.delete(id);
    if (host.tasks.size <= rememberedTasks) return;
  }
}

/** The next change of the task, its end, or the end of the wait. */
export function taskChange(live: LiveTask, waitMs: number): Promise<void> {
  if (live.task.state !== 'running' || waitMs <= 0) return Promise.resolve();
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      live.watchers.delete(done);
      resolve();
    };
    const timer = setTimeout(done, waitMs);
    live.watchers.add(done);
  });
}

export async function cancelTask(live: LiveTask): Promise<void> {
  live.abort.abort();
  while (live.task.state === 'running') await taskChange(live, 1_000);
}
