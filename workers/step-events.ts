/** What steps are doing right now, written to their operations in small batches, so that clients see it without asking Temporal. */
import type { StepContext, StepReport } from '../activities/step.ts';
import type { Database } from '../database/database.ts';
import { mergeSteps } from '../database/operations.ts';
import type { Log } from '../runtime/log.ts';

export interface StepEvents {
  tell(context: StepContext, report: Partial<StepReport>): void;
  flush(): Promise<void>;
}

const flushMs = 200;

export function stepEvents(database: Database, log: Log): StepEvents {
  let waiting = new Map<string, { context: StepContext; report: Partial<StepReport> }>();
  let timer: NodeJS.Timeout | undefined;

  async function flush(): Promise<void> {
    timer = undefined;
    const batch = [...waiting.values()];
    waiting = new Map();
    if (batch.length === 0) return;
    const rows = batch.map(({ context, report }) => ({
      id: context.operationId,
      committed: context.committed,
      event: { index: context.index, name: context.step, ...report },
    }));
    try {
      await mergeSteps(database.connections, { told: JSON.stringify(rows) });
    } catch (error) {
      // The saga writes the whole list at the end; a lost batch is only seen late.
      log.warn({ error: String(error) }, 'could not write step events');
    }
  }

  return {
    tell(context, report) {
      if (context.index < 0) return;
      const key = `${context.operationId}/${context.index}`;
      const known = waiting.get(key);
      waiting.set(key, { context, report: { ...known?.report, ...report } });
      timer ??= setTimeout(() => void flush(), flushMs);
    },
    async flush() {
      clearTimeout(timer);
      await flush();
    },
  };
}
