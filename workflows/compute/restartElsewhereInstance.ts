import { patched } from '@temporalio/workflow';
import { hypervisor, instances, networkInterfaces, placement } from '../steps.ts';
import { workflow } from '../workflow.ts';

/**
 * Starts an instance whose host has failed on another one. It is lost as soon as this has begun, and stays so when it can not be started: its place on
 * the host that failed is not given back to it.
 *
 * Steps that do not need one another are begun together: hundreds of instances wait for their turn.
 */
export const restartElsewhereInstance = workflow('instance.restartElsewhere', async (step, { instanceId }) => {
  const { hostId: failedHostId } = await step(instances.lose, { instanceId });
  const isTogether = patched('what needs nothing of the other is begun with it');
  const begin = async (...steps: (() => Promise<unknown>)[]): Promise<void> => {
    if (isTogether) return void (await Promise.all(steps.map((take) => take())));
    for (const take of steps) await take();
  };
  if (failedHostId) {
    await begin(
      () => step(hypervisor.turnOff, { instanceId, hostId: failedHostId }),
      () => step(networkInterfaces.unbind, { instanceId }),
    );
    await step(placement.abandon, { instanceId });
  }
  const { hostId } = await step(placement.reserve, { instanceId, fromReserve: true });
  await begin(
    () => step(hypervisor.proveShutOut, { instanceId, hostId }),
    () => step(networkInterfaces.bind, { instanceId, hostId }),
  );
  await step(hypervisor.boot, { instanceId, hostId });
  await step(networkInterfaces.awaitUp, { instanceId, hostId });
  return { hostId };
});
