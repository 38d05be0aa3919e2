import { ApplicationFailure } from '@temporalio/workflow';
import { saga } from '../saga.ts';
import { hypervisor, instances, networkInterfaces, placement } from '../steps.ts';

export interface StopInstance {
  instanceId: string;
  mode?: 'soft' | 'softThenForce' | 'force';
  timeoutSeconds?: number;
}

/**
 * Stops an instance and gives its room back. `soft` leaves a guest that does not shut down in time as it is, and fails.
 *
 * There is no way back once the plug is pulled, or the guest is off: what it had in memory is gone.
 */
export async function stopInstance({
  instanceId,
  mode = 'softThenForce',
  timeoutSeconds = 60,
}: StopInstance): Promise<void> {
  await saga(async (step) => {
    const { hostId } = await step(instances.locate, { instanceId });
    if (hostId && mode !== 'force') {
      const { off } = await step(hypervisor.shutDown, { instanceId, hostId, timeoutSeconds });
      if (!off && mode === 'soft')
        throw ApplicationFailure.nonRetryable(`the guest did not shut down within ${timeoutSeconds} s`, 'TIMEOUT');
    }
    step.commit();
    if (hostId) await step(hypervisor.turnOff, { instanceId, hostId });
    await step(networkInterfaces.unbind, { instanceId });
    await step(placement.release, { instanceId });
  });
}
