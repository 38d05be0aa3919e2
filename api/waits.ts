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
/** Where ends are told, and none was. */
const quietLookMs = 1_000;

interface Wait {
  id: string;
  since: number;
  /** When it was looked at last, and how many ends had been told then; none before that. */
  looked: { at: number; told: number } | undefined;
  /** Not before this, whatever is told. */
  nextAt: number;
  end(error?: unknown): void;
}

interface Line {
  waits: Set<Wait>;
  wake(): void;
}

const lines = new Map<Database, Line>();

/** Ends are counted, so that no clock that is set back hides one. */
const ear = { isOpen: false, told: 0 };

/** Ends that PostgreSQL tells. Nothing depends on them but how often is looked, and how soon an end is seen. */
export const endings = {
  channel: 'belay_ended',
  /** One has ended, or is stuck, or may have before it was listened. */
  told(): void {
    ear.isOpen = true;
    ear.told += 1;
    for (const line of lines.values()) line.wake();
  },
  /** Nobody listens any more. */
  missed(): void {
    ear.isOpen = false;
    for (const line of lines.values()) line.wake();
  },
} as const;

const dueAt = ({ looked, nextAt }: Wait): number =>
  ear.isOpen && looked?.told === ear.told ? looked.at + quietLookMs : nextAt;

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
  // What is told from here on may be too new for this look.
  const looked = { at: Date.now(), told: ear.told };
  const ids = [...new Set(due.map(({ id }) => id))];
  const going = await unsettled(database.connections, { ids, settled });
  const known = new Set(going.map(({ id }) => id));
  const now = Date.now();
  for (const wait of due) {
    if (!known.has(wait.id)) wait.end();
    wait.looked = looked;
    wait.nextAt = nextLook(now, Math.min(rarestLookMs, Math.max(lookMs, (now - wait.since) / 10)));
  }
}

/** Until a moment, or until something wakes it. */
const rest = (line: Line, until: number): Promise<void> =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, Math.max(1, until - Date.now()));
    line.wake = () => {
      clearTimeout(timer);
      resolve();
    };
  });

async function watch(database: Database, line: Line): Promise<void> {
  while (line.waits.size > 0) {
    const now = Date.now();
    const due = [...line.waits].filter((wait) => dueAt(wait) <= now);
    if (due.length === 0) {
      await rest(
        line,
        [...line.waits].reduce((soonest, wait) => Math.min(soonest, dueAt(wait)), Infinity),
      );
      continue;
    }
    await look(database, due).catch((error: unknown) => {
      for (const wait of due) wait.end(error);
    });
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
      line.waits.delete(wait);
      line.wake();
      if (error === undefined) resolve();
      else reject(error as Error);
    };
    const over = (): void => end();
    const timer = setTimeout(over, seconds * 1_000);
    signal.addEventListener('abort', over, { once: true });
    const wait: Wait = { id, since: now, looked: undefined, nextAt: now, end };
    const known = lines.get(database);
    const line: Line = known ?? { waits: new Set(), wake() {} };
    line.waits.add(wait);
    if (known) return line.wake();
    lines.set(database, line);
    void watch(database, line);
  });
}
