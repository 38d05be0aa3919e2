import { ask, followAll, maintain } from '../maintain.ts';
import { maintenances } from '../steps.ts';

/** Copies of images that nothing has lived on for a day are removed, by an operation for each pool that has some. */
export const cleanCaches = (): Promise<void> =>
  maintain(async () => {
    const { begun } = await ask(maintenances.caches, {});
    await followAll(begun);
  });
