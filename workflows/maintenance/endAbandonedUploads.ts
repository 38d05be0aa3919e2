import { ask, maintain } from '../maintain.ts';
import { maintenances } from '../steps.ts';

/** What uploads of servers that died left in the store is thrown away, and their images wait for another upload. */
export const endAbandonedUploads = (): Promise<void> => maintain(() => ask(maintenances.uploads, {}));
