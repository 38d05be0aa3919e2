import { ask, maintain } from '../maintain.ts';
import { audits } from '../steps.ts';

/** What may go wrong, as the records tell. */
export const scanRisks = (): Promise<void> => maintain(() => ask(audits.risks, {}));
