import { volumeRecords, volumes } from '../steps.ts';
import { workflow } from '../workflow.ts';

/** Attaches a volume to an instance: in the records, and live when the instance runs. */
export const attachVolume = workflow('volume.attach', async (step, { volumeId, instanceId }) => {
  const { hostId } = await step(volumeRecords.reserveSlot, { volumeId, instanceId });
  if (hostId) await step(volumes.plug, { hostId, volumeId, instanceId });
});
