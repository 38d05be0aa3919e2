import { ask, followAll, maintain } from '../maintain.ts';
import { maintenances } from '../steps.ts';

/** What a failed host has left without a place is started as soon as there is one. */
export const restartLost = (): Promise<void> =>
  maintain(async () => {
    const { begun } = await ask(maintenances.lost, {});
    await followAll(begun);
  });
