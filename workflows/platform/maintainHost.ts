import { workflowInfo } from '@temporalio/workflow';
import { hosts, people } from '../steps.ts';
import { workflow } from '../workflow.ts';

/**
 * Empties a host, has something done to it, and takes it back into use. Until it is rebooted all of it can be taken back; then the only way is
 * on, because its guests' places are where they are by now, and a host that does not come back is for a person to look at.
 *
 * While it is empty it is held by nobody: who works on it may do what the platform offers for it, even take it back into use.
 */
export const maintainHost = workflow(
  'host.maintain',
  async (step, { hostId, hook, byBmc, instances, moveBack, maxParallel, reason }) => {
    const booted = hook === 'reboot' ? await step(hosts.readBoot, { hostId, byBmc }) : null;
    const told = reason === null ? {} : { reason };
    const exit = {
      type: 'host.exitMaintenance',
      targetId: hostId,
      input: { moveBack, maxParallel },
      whileFit: true,
      // Whoever has emptied it anew since is the one to take it back into use.
      whileOwn: 'host.enterMaintenance',
    } as const;
    await step.child({
      type: 'host.enterMaintenance',
      targetId: hostId,
      input: { instances, maxParallel, ...told },
      inverse: exit,
    });
    if (hook === 'connect') await step.child({ type: 'host.connect', targetId: hostId });
    if (hook === 'wait')
      await step.wait(people.wait, {
        waitsFor: `host ${hostId} is empty: work on it, and say when that is done, by belay operations continue ${workflowInfo().workflowId}`,
      });
    if (booted !== null) {
      step.commit();
      // Its BMC asks nobody: that is done as an operation that holds the host, so that nobody takes it back into use meanwhile.
      const cycle = () => step.child({ type: 'host.power', targetId: hostId, input: { command: 'cycle' } });
      if (byBmc) await cycle();
      const how = await step(hosts.reboot, { hostId, byBmc, ...booted });
      // Runs from before it told had no other way.
      if ((how as typeof how | undefined)?.isDeaf) {
        await cycle();
        await step(hosts.reboot, { hostId, byBmc: true, ...booted });
      }
    }
    return step.child(exit);
  },
);
