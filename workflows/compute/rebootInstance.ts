import { ApplicationFailure } from '@temporalio/workflow';
import { hypervisor, instances } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Asks the guest to reboot, or resets it. There is nothing to undo: the instance runs before and after. */
export const rebootInstance = workflow('instance.reboot', async (step, { instanceId, mode }) => {
  const { hostId } = await step(instances.locate, { instanceId });
  if (!hostId) throw ApplicationFailure.nonRetryable(`instance ${instanceId} is on no host`, 'INVALID_STATE');
  await step(hypervisor.reboot, { instanceId, hostId, mode });
});
