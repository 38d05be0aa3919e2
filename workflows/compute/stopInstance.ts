import { ApplicationFailure } from '@temporalio/workflow';
import { hypervisor, instances, networkInterfaces, placement } from '../steps.ts';
import { workflow } from '../workflow.ts';

/**
 * Stops an instance and gives its room back. `soft` leaves a guest that does not shut down in time as it is, and fails.
 *
 * There is no way back once the plug is pulled, or the guest is off: what it had in memory is gone.
 */
export const stopInstance = workflow('instance.stop', async (step, { instanceId, mode, timeoutSeconds }) => {
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
