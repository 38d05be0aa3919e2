import { ask, followAll, maintain } from '../maintain.ts';
import { maintenances } from '../steps.ts';

/** Each zone's report is an operation, so that those of before can be read, and compared with. */
export const reportCapacity = (): Promise<void> =>
  maintain(async () => {
    const { begun } = await ask(maintenances.capacities, {});
    await followAll(begun);
  });
