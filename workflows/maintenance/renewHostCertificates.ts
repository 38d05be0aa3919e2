import { ask, followAll, maintain } from '../maintain.ts';
import { maintenances } from '../steps.ts';

/** Hosts whose certificate is in the last third of its life are connected again, which is how they get the next; some of them at a time. */
export const renewHostCertificates = (): Promise<void> =>
  maintain(async () => {
    const { begun } = await ask(maintenances.certificates, {});
    await followAll(begun);
  });
