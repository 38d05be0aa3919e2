import { ask, maintain, untilDone } from '../maintain.ts';
import { maintenances } from '../steps.ts';

/** Old operations, events and audit entries leave the database for a backup store, where there is one. */
export const archiveOld = (): Promise<void> => maintain(() => untilDone(() => ask(maintenances.archive, {})));
