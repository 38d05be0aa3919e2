import { ask, maintain, untilDone } from '../maintain.ts';
import { maintenances } from '../steps.ts';

/** Deleted resources can be read for a while, and then not any more. */
export const forgetTombstones = (): Promise<void> => maintain(() => untilDone(() => ask(maintenances.tombstones, {})));
