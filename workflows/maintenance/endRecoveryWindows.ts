import { ask, followPages, maintain } from '../maintain.ts';
import { maintenances } from '../steps.ts';

/** Destroyed instances and volumes go for good when their recovery window is over. */
export const endRecoveryWindows = (): Promise<void> =>
  maintain(async () => {
    for (const kind of ['instance', 'volume'] as const)
      await followPages((after) => ask(maintenances.overdue, { kind, after }));
  });
