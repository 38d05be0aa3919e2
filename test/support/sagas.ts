/** Workflows that do what no action of the product does, to prove what the saga makes of it. */
import type { StepPair } from '../../activities/step.ts';
import { saga, stepsOf } from '../../workflows/saga.ts';

type Pair = StepPair<Record<string, never>, void>;
const probe = stepsOf<{ held: Pair; first: Pair; second: Pair; fails: Pair }>('probe', 'control');

const record = stepsOf<{ kept: Pair }>('probe', 'record');

/** The last step is done beside the history, in the piece of the run that ends it. */
export const endsBesideHistory = (): Promise<string> =>
  saga(async (step) => {
    await step(probe.held, {});
    await step(record.kept, {});
    return 'kept';
  });

export const endsBesideHistoryForward = (): Promise<string> =>
  saga(async (step) => {
    await step(probe.held, {});
    step.commit();
    await step(record.kept, {});
    return 'kept';
  });

/** A branch that would go on while its sibling has failed. */
export const branchGoesOn = (): Promise<void> =>
  saga(async (step) => {
    const branch = async (): Promise<void> => {
      await step(probe.held, {});
      await step(probe.first, {});
    };
    await Promise.all([branch(), step(probe.fails, {})]);
  });

/** Two steps that fail at once where there is no way back. */
export const failsTwiceForward = (): Promise<void> =>
  saga(async (step) => {
    step.commit();
    await Promise.all([step(probe.first, {}), step(probe.second, {})]);
  });

export const oneAfterTheOther = (): Promise<void> =>
  saga(async (step) => {
    await step(probe.held, {});
    await step(probe.first, {});
  });

export const heldOnly = (): Promise<void> => saga((step) => step(probe.held, {}));

export const committedBehindIt = (): Promise<void> =>
  saga(async (step) => {
    await step(probe.held, {});
    step.commit();
    await step(probe.first, {});
  });

export const onlyForward = (): Promise<void> =>
  saga(async (step) => {
    step.commit();
    await step(probe.held, {});
    await step(probe.first, {});
  });
