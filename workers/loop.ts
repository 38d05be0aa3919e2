/** What a process does again and again, until it is asked to stop. */
import type { Log } from '../runtime/log.ts';

/** Loops that pause; whoever calls `wake` ends their pauses. */
export interface Sleepers {
  add(wake: () => void): void;
  remove(wake: () => void): void;
  wake(): void;
}

export function sleepers(): Sleepers {
  const sleeping = new Set<() => void>();
  return {
    add: (wake) => void sleeping.add(wake),
    remove: (wake) => void sleeping.delete(wake),
    wake() {
      for (const wake of sleeping) wake();
    },
  };
}

export interface Loop {
  /** How the log names it. */
  what: string;
  work(): Promise<unknown>;
  /** Before the next round, from what this one answered. */
  pauseMs(result: unknown): number;
  wakes?: Sleepers;
}

/** What could not be done, because the database or Temporal is away, is not tried again at once. */
const afterFailureMs = 1_000;

/** Runs one until `stop` resolves. */
export async function repeat(log: Log, stop: Promise<void>, { what, work, pauseMs, wakes }: Loop): Promise<void> {
  let stopping = false;
  void stop.then(() => {
    stopping = true;
  });
  while (!stopping) {
    let pauseFor = afterFailureMs;
    try {
      pauseFor = pauseMs(await work());
    } catch (error) {
      log.warn({ error: error instanceof Error ? error.message : String(error) }, `${what} failed; trying again`);
    }
    const pause = new Promise<void>((resolve) => {
      const wake = (): void => {
        wakes?.remove(wake);
        clearTimeout(timer);
        resolve();
      };
      const timer = setTimeout(wake, pauseFor);
      wakes?.add(wake);
    });
    await Promise.race([pause, stop]);
  }
}
