import { ask, followAll, maintain } from '../maintain.ts';
import { maintenances } from '../steps.ts';

/** Hosts whose credentials are older than the setting says get others; some of them at a time. */
export const rotateCredentials = (): Promise<void> =>
  maintain(async () => {
    const { begun } = await ask(maintenances.credentials, {});
    await followAll(begun);
  });
