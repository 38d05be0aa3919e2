import { ask, followPages, maintain } from '../maintain.ts';
import { maintenances } from '../steps.ts';

/** Snapshots past their `expiresAt`, and announced images whose bytes did not come in time, are deleted. */
export const deleteExpired = (): Promise<void> =>
  maintain(async () => {
    for (const kind of ['snapshot', 'image'] as const)
      await followPages((after) => ask(maintenances.overdue, { kind, after }));
  });
