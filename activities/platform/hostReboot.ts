/** A host starts anew. */
import { setTimeout as delay } from 'node:timers/promises';
import { Context } from '@temporalio/activity';
import { bmcOf } from '../../database/power.ts';
import { noteSent, notSent, takenOfParts, wasSent } from '../../database/sent.ts';
import { AgentError } from '../../host-agent/agentError.ts';
import { refuse } from '../failure.ts';
import { step } from '../step.ts';
import type { World } from '../world.ts';
import { disprove } from './hostPower.ts';

interface HostRef {
  hostId: string;
}

const lookMs = 2_000;
/** So long machines may check their memory before they start. */
const patienceMinutes = 30;
/** A BMC takes seconds to switch. An agent that has not taken the order for so long does not take it; and one that has, and answers so long afterwards, does not obey. */
const deafMs = 30_000;
const obeyMs = 300_000;

/** What is heard of a host that is just going down, or not up yet. */
const isAway = (error: unknown): boolean =>
  error instanceof AgentError && (error.code === 'HOST_UNREACHABLE' || error.code === 'TIMEOUT');

export const hostReboot = (world: World, pause: typeof delay = delay) => {
  const canCycle = async (hostId: string): Promise<boolean> => {
    const [host] = await bmcOf(world.database.connections, { hostId });
    return host !== undefined && host.bmc !== null && host.bmcDisprovedAt === null;
  };
  /** It has cycled something else. Not where the command may never have come. */
  const doubtBmc = async (hostId: string, operationId: string): Promise<void> => {
    const [taken] = await takenOfParts(world.database.connections, { operationId, what: 'cycle' });
    const [host] = taken ? await bmcOf(world.database.connections, { hostId }) : [];
    if (host?.bmc)
      await disprove(world.database, host, 'it answers, and has not started anew', 'that it has cycled the host');
  };
  return {
    /** In which of its lives the machine is, so that it is known later whether that is over. Refused where it could not be ended, before anything is brought elsewhere. */
    readBoot: step({
      system: 'host',
      async do({ hostId, byBmc }: HostRef & { byBmc: boolean }): Promise<{ bootId: string }> {
        const { bootId, canReboot } = await (await world.host(hostId)).call('host.boot', {});
        if (!canReboot && !byBmc)
          throw refuse('NOT_SUPPORTED', `host ${hostId} has no systemd, by which it could be made to start anew`);
        return { bootId };
      },
    }),

    /**
     * The machine is in another life than that one, and its agent answers. Asked for again it waits, and starts nothing a second time. It ends by itself, before its
     * deadline, so that a person is told at once what was found. Of a host that can be cycled by its BMC, and whose agent does not obey, it answers that this is deaf:
     * it has not taken the order, or answers long after it as before. One that has taken it and is silent may be starting. One that was cycled and answers as before was
     * not cycled.
     */
    reboot: step({
      system: 'host',
      async do({ hostId, bootId, byBmc }: HostRef & { bootId: string; byBmc: boolean }, context) {
        const { cancellationSignal: signal } = Context.current();
        const { connections } = world.database;
        const order = { operationId: context.operationId, what: 'reboot' };
        const begunAt = performance.now();
        for (let found = ''; ; ) {
          let answers = false;
          try {
            const host = await world.host(hostId);
            if ((await host.call('host.boot', {})).bootId !== bootId) return { isDeaf: false };
            answers = true;
            found = 'it answers, and has not started anew';
            if (!byBmc) {
              const [isNew] = await noteSent(connections, order);
              await host.call('host.reboot', { bootId }).catch(async (error: unknown) => {
                // It is there, and says nothing: it has not begun to go down, unless it has taken an order before.
                if (isNew && error instanceof AgentError && error.code === 'TIMEOUT') await notSent(connections, order);
                throw error;
              });
            }
          } catch (error) {
            if (!isAway(error)) throw error;
            found = (error as AgentError).message;
          }
          const waitedMs = performance.now() - begunAt;
          if (byBmc && answers && waitedMs > deafMs) {
            await doubtBmc(hostId, context.operationId);
            throw refuse(
              'PRECONDITION_FAILED',
              `host ${hostId} was cycled by its BMC, and has not started anew: find out whether that is the BMC of another machine`,
              { hostId, triedEnough: true },
            );
          }
          if (!byBmc && waitedMs > deafMs && (await canCycle(hostId))) {
            const [taken] = await wasSent(connections, order);
            if (!taken || (answers && waitedMs > obeyMs)) return { isDeaf: true };
          }
          if (waitedMs > patienceMinutes * 60_000)
            throw refuse(
              'HOST_UNREACHABLE',
              `host ${hostId} did not come back within ${patienceMinutes} minutes: ${found}`,
              {
                hostId,
                triedEnough: true,
              },
            );
          await pause(lookMs, undefined, { signal });
        }
      },
    }),
  };
};
