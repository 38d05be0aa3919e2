import { ask, maintain } from '../maintain.ts';
import { maintenances } from '../steps.ts';

/** Resources that say an operation holds them which has ended are free again. There are none unless something is wrong. */
export const releaseForgotten = (): Promise<void> => maintain(() => ask(maintenances.forgotten, {}));
