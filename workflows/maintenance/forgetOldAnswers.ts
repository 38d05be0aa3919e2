import { maintenances } from '../steps.ts';
import { ask, maintain, untilDone } from './maintain.ts';

/** Answers to Idempotency-Keys are kept for a while. */
export const forgetOldAnswers = (): Promise<void> => maintain(() => untilDone(() => ask(maintenances.answers, {})));
