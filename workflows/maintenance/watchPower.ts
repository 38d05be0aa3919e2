import { ask, maintain } from '../maintain.ts';
import { maintenances } from '../steps.ts';

/** Whether hosts are on, as their BMCs say. */
export const watchPower = (): Promise<void> => maintain(() => ask(maintenances.power, {}));
