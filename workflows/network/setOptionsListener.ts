import { listeners } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Sends connections elsewhere, or answers or not. */
export const setOptionsListener = workflow(
  'listener.setOptions',
  async (step, { listenerId, targetGroupId, enabled }) => {
    const { before } = await step(listeners.plan, { listenerId });
    const after = { targetGroupId: targetGroupId ?? before.targetGroupId, enabled };
    await step(listeners.record, { listenerId, before, after });
    await step(listeners.write, { listenerId, before, after });
  },
);
