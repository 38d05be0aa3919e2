import { ApplicationFailure } from '@temporalio/workflow';
import { saga } from '../saga.ts';
import { hypervisor, instances } from '../steps.ts';

export interface RebootInstance {
  instanceId: string;
  mode?: 'soft' | 'force';
}

/** Asks the guest to reboot, or resets it. There is nothing to undo: the instance runs before and after. */
export async function rebootInstance({ instanceId, mode = 'soft' }: RebootInstance): Promise<void> {
  await saga(async (step) => {
    const { hostId } = await step(instances.locate, { instanceId });
    if (!hostId) throw ApplicationFailure.nonRetryable(`instance ${instanceId} is on no host`, 'INVALID_STATE');
    await step(hypervisor.reboot, { instanceId, hostId, mode });
  });
}
