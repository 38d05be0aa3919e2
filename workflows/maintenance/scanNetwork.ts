import { ask, maintain, repairFound } from '../maintain.ts';
import { audits } from '../steps.ts';

/** OVN's rows beside the records. */
export const scanNetwork = (): Promise<void> =>
  maintain(async () => {
    await ask(audits.network, {});
    await repairFound(['ovn']);
  });
