import { ask, maintain, untilDone } from '../maintain.ts';
import { maintenances } from '../steps.ts';

/** Answers to Idempotency-Keys are kept for a while. */
export const forgetOldAnswers = (): Promise<void> => maintain(() => untilDone(() => ask(maintenances.answers, {})));
