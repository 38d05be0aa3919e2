import { ask, maintain } from '../maintain.ts';
import { schedules } from '../steps.ts';

/** Temporal's schedules are made anew where it has lost them, and the records say when the next runs are. */
export const alignSchedules = (): Promise<void> =>
  maintain(async () => {
    let after: string | null = null;
    do after = await ask(schedules.align, { after });
    while (after !== null);
  });
