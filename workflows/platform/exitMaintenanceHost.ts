import { hosts } from '../steps.ts';
import { workflow } from '../workflow.ts';
import { partsOf, runEach } from './many.ts';

/**
 * Takes a host back into use as `host.connect` does: its agent is brought up to date, and its settings are written anew. What can not come back
 * runs on where it is, and the host is in use all the same.
 */
export const exitMaintenanceHost = workflow('host.exitMaintenance', async (step, { hostId, moveBack, maxParallel }) => {
  await step(hosts.reach, { hostId });
  await step(hosts.installAgent, { hostId });
  await step(hosts.renewHypervisor, { hostId });
  await step(hosts.renewSwitch, { hostId });
  await step(hosts.renewStorage, { hostId });
  await step(hosts.probe, { hostId });
  const returning = moveBack ? await step(hosts.findReturning, { hostId }) : [];
  await step(hosts.reopen, { hostId });
  const pieces = returning.map(({ id, by }) => ({
    about: id,
    request: {
      ...(by === 'instance.migrate' ? { type: by, input: { hostId } } : { type: 'instance.start', input: {} }),
      targetId: id,
      onlyIf: { field: 'lastHostId', is: hostId },
    },
  }));
  return partsOf(await runEach(step, pieces, { maxParallel }));
});
