import { portForwards } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Says who may come. There is no way back once the records hold it: the undo takes what was before from there. */
export const setAllowedPortForward = workflow(
  'portForward.setAllowed',
  async (step, { portForwardId, allowedCidrs }) => {
    await step(portForwards.replaceAllowed, { portForwardId, allowedCidrs });
    step.commit();
    await step(portForwards.recordAllowed, { portForwardId, allowedCidrs });
  },
);
