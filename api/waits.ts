/** Waits for the ends of operations. All of a process are looked at together: a thousand waits cost hardly more than one. */
import type { Database } from '../database/database.ts';
import { from, isAmong, statement, type Values } from '../database/statement.ts';
import { finalOperationStates } from '../model/platform/operation.ts';

/** What a wait is over with: an end, or a question to an operator. */
const settled: readonly string[] = [...finalOperationStates, 'stuck'];

/** Between two looks; a wait that has lasted for long is looked at less often, together with the others that have. */
const lookMs = 10;
const laterLookMs = 50;
const rarestLookMs = 250;

interface Wait {
  id: string;
  since: number;
  dueAt: number;
  end(error?: unknown): void;
}

const lines = new WeakMap<Database, Set<Wait>>();

/** Those that may wait longer are looked at at the same moments, so that many are no more looks than one. */
const nextLook = (now: number, pause: number): number =>
  pause < laterLookMs ? now + pause : Math.ceil((now + pause) / laterLookMs) * laterLookMs;

const unsettled = statement((p: Values<{ ids: string[]; settled: readonly string[] }>) =>
  from
    .selectFrom('operation')
    .select('id')
    .where((eb) => isAmong(eb.ref('id'), p.ids))
    .where((eb) => eb.not(isAmong(eb.ref('state'), p.settled))),
);

async function look(database: Database, due: Wait[]): Promise<void> {
  const ids = [...new Set(due.map(({ id }) => id))];
  const going = await unsettled(database.connections, { ids, settled });
  const known = new Set(going.map(({ id }) => id));
  const now = Date.now();
  for (const wait of due) {
    if (!known.has(wait.id)) wait.end();
    wait.dueAt = nextLook(now, Math.min(rarestLookMs, Math.max(lookMs, (now - wait.since) / 10)));
  }
}

async function watch(database: Database, line: Set<Wait>): Promise<void> {
  while (line.size > 0) {
    const now = Date.now();
    const due = [...line].filter(({ dueAt }) => dueAt <= now);
    if (due.length > 0)
      await look(database, due).catch((error: unknown) => {
        for (const wait of due) wait.end(error);
      });
    await new Promise((resolve) => setTimeout(resolve, lookMs));
  }
  lines.delete(database);
}

/** Resolves when the operation has ended, is stuck or gone, or the time is over, at most a tenth later than that. */
export function waitForEnd(database: Database, id: string, seconds: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve, reject) => {
    const now = Date.now();
    const end = (error?: unknown): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', over);
      line.delete(wait);
      if (error === undefined) resolve();
      else reject(error as Error);
    };
    const over = (): void => end();
    const timer = setTimeout(over, seconds * 1_000);
    signal.addEventListener('abort', over, { once: true });
    const wait: Wait = { id, since: now, dueAt: now, end };
    const known = lines.get(database);
    const line = known ?? new Set<Wait>();
    line.add(wait);
    if (known) return;
    lines.set(database, line);
    void watch(database, line);
  });
}
