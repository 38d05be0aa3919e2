/** A host goes: emptied and cleaned, or given up for dead. */
import { setTimeout } from 'node:timers/promises';
import { Context } from '@temporalio/activity';
import { askToSettle } from '../../acceptance/compute/settle.ts';
import { declareDead, forgetCapacity, guestsPlacedOn, takeBackDeath } from '../../database/claims.ts';
import { seenNoMore } from '../../database/findings.ts';
import { from, statement, type Values } from '../../database/statement.ts';
import { AgentError } from '../../host-agent/agentError.ts';
import { removeAgent, removeInstalledPackages } from '../../host-agent/install.ts';
import { refuse } from '../failure.ts';
import { step } from '../step.ts';
import { disconnectStorage, disownStorage } from '../storage/drivers/index.ts';
import type { World } from '../world.ts';
import { type Host, type HostRef, hostEntry } from './hostEntry.ts';
import { removeChassis } from './southbound.ts';
import { answers } from './witnesses.ts';

const claimsOn = statement((p: Values<{ hostId: string }>) =>
  from
    .selectFrom('hostClaim as c')
    .innerJoin('instance as i', 'i.id', 'c.instanceId')
    .select(['i.id', 'i.name'])
    .where('c.hostId', '=', p.hostId)
    .orderBy('i.name')
    .orderBy('i.id')
    .limit(20),
);

const isAway = statement((p: Values<{ hostId: string }>) =>
  from.selectFrom('host').select('fencedAt').where('id', '=', p.hostId).where('connection', '=', 'disconnected'),
);

export const hostRemoval = (world: World) => {
  const { database } = world;
  const { connections } = database;
  const { find, ofHolder, overSsh, leaveNetwork, closeDoor } = hostEntry(world);
  /** A lost host's rights end from outside: in storage through any other host, in OVN with its chassis. */
  async function forgetLostHost(host: Host): Promise<void> {
    await disownStorage(world, host);
    if (world.southbound.remotes) await removeChassis(world.southbound, host.id);
  }

  return {
    /** Placement has not used it since it is being deleted; refused while anything holds a claim on it, or when nobody is there to be cleaned. */
    disable: step({
      system: 'record',
      async do({ hostId, force }: HostRef & { force?: boolean }) {
        const claims = await claimsOn(connections, { hostId });
        if (claims.length > 0)
          throw refuse('HAS_DEPENDENTS', `instances are on host ${hostId}: stop or migrate them first`, {
            blockers: claims.map((claim) => ({ kind: 'instance', ...claim })),
          });
        const [away] = await isAway(connections, { hostId });
        if (away && !force)
          throw refuse(
            'HOST_UNREACHABLE',
            `host ${hostId} does not answer and can not be cleaned: ${away.fencedAt ? 'reinstate it' : 'connect it again'}, or delete it with force`,
          );
      },
    }),

    /** From now on nothing waits for it, and nothing is taken to be on it. */
    declareDead: step({
      system: 'record',
      async do({ hostId }: HostRef, context) {
        const [dead] = (await answers(world.database, hostId)) ? [] : await ofHolder(context, hostId, declareDead);
        if (!dead) throw refuse('PRECONDITION_FAILED', `host ${hostId} answers again: it is not dead`);
      },
      undoText: 'take it back',
      async undo({ hostId }, context) {
        await ofHolder(context, hostId, takeBackDeath);
      },
    }),

    /** The guests of a dead host are stopped by operations of their own, each as soon as no other is at work on its instance. */
    freeGuests: step({
      system: 'record',
      async do({ hostId }: HostRef) {
        const { cancellationSignal: signal } = Context.current();
        for (;;) {
          const guests = await guestsPlacedOn(connections, { hostId });
          if (guests.length === 0) return;
          for (const { id, idle } of guests) if (idle) await askToSettle(database, id, 'host-dead');
          await setTimeout(500, undefined, { signal });
        }
      },
    }),

    /** What the agent can take back: storage, network, hypervisor settings. `force` is for a host that will never answer again. */
    clean: step({
      system: 'host',
      async do({ hostId, force }: HostRef & { force: boolean }) {
        const host = await find(hostId);
        try {
          await disconnectStorage(world, host);
          await leaveNetwork(host);
          await (await world.host(hostId)).call('hypervisor.ensureUnconfigured', {});
        } catch (error) {
          if (!force || !(error instanceof AgentError)) throw error;
          world.log.warn({ hostId, error: error.message }, 'a host is removed without being cleaned');
          await forgetLostHost(host);
        }
      },
    }),

    /** The agent, the packages that came with it, and last the key. */
    uninstall: step({
      system: 'host',
      async do({ hostId, force }: HostRef & { force: boolean }) {
        try {
          await overSsh(await find(hostId), async (connection) => {
            await removeAgent(connection);
            await removeInstalledPackages(connection);
          });
          await closeDoor(hostId);
        } catch (error) {
          // Without our key there is nothing of ours left to remove: an earlier attempt got to the end.
          if (error instanceof AgentError && error.code === 'PRECONDITION_FAILED') return;
          if (!force || !(error instanceof AgentError)) throw error;
          world.log.warn({ hostId, error: error.message }, 'a host is removed with its agent on it');
        }
      },
    }),

    forget: step({
      system: 'record',
      async do({ hostId }: HostRef, context) {
        await ofHolder(context, hostId, forgetCapacity);
        await seenNoMore(connections, { resourceKind: 'host', resourceIds: [hostId] });
      },
    }),
  };
};
