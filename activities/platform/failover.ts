/** How a host that has failed is shut out, and how it comes back. */
import { noteFailed, noteFenced, noteShutOut, readmit, takeBackDeath, takeBackFailure } from '../../database/claims.ts';
import { ownFindings, silenceFindings } from '../../database/detection.ts';
import { refusalToFence, type Stranded, strandedOn } from '../../database/fence.ts';
import { seenNoMore } from '../../database/findings.ts';
import { from, statement, type Values } from '../../database/statement.ts';
import { refuse } from '../failure.ts';
import { asHolder } from '../holder.ts';
import { step } from '../step.ts';
import { fenceStorage, proveStorageWritable, unfenceStorage } from '../storage/drivers/index.ts';
import type { World } from '../world.ts';
import { isProvenDown } from './witnesses.ts';

interface HostRef {
  hostId: string;
}

const placeOf = statement((p: Values<{ hostId: string }>) =>
  from.selectFrom('host').select(['id', 'zoneId']).where('id', '=', p.hostId),
);

export const failover = (world: World) => {
  const { database } = world;
  const find = async (hostId: string): Promise<{ id: string; zoneId: string | null }> => {
    const [host] = await placeOf(database.connections, { hostId });
    if (!host) throw refuse('NOT_FOUND', `there is no host ${hostId}`);
    return host;
  };

  return {
    /** A host that serves is not shut out, whoever asks for it; and one of which it is not known how is so only on the word of a person. */
    proveDown: step({
      system: 'record',
      async do({ hostId, confirmDead }: HostRef & { confirmDead: boolean }) {
        const { isDown, why } = await isProvenDown(world, hostId, { confirmDead });
        if (!isDown) throw refuse('PRECONDITION_FAILED', `host ${hostId} has not failed: ${why}`);
        // It was asked when the failover was accepted; an address may have become another host's since.
        const refusal = confirmDead ? null : await refusalToFence(database.connections, { hostId });
        if (refusal !== null) throw refuse('PRECONDITION_FAILED', refusal);
      },
      undoText: 'take back that it is dead',
      undo: ({ hostId }, context) =>
        asHolder(database, context, async (tx) => {
          await takeBackDeath(tx, { hostId, operationId: context.operationId });
        }),
    }),

    /** Placement has not used it since its state says that it is shut out. */
    noteFailed: step({
      system: 'record',
      do: ({ hostId, reason }: HostRef & { reason: string | null }, context) =>
        asHolder(database, context, async (tx) => {
          await noteFailed(tx, { hostId, operationId: context.operationId, reason });
        }),
      undoText: 'take the reason back',
      undo: ({ hostId }, context) =>
        asHolder(database, context, async (tx) => {
          await takeBackFailure(tx, { hostId, operationId: context.operationId });
        }),
    }),

    /** In every storage that can shut a host out. Once asked for it may be so, whatever is answered: so it is asked for until it is proven. */
    fence: step({
      system: 'rbd',
      async do({ hostId }: HostRef, context) {
        await fenceStorage(world, await find(hostId));
        await asHolder(database, context, async (tx) => {
          await noteShutOut(tx, { hostId, operationId: context.operationId });
        });
      },
    }),

    /** From now on nothing waits for the host, and what is under way there ends. */
    noteFenced: step({
      system: 'record',
      do: ({ hostId, confirmDead }: HostRef & { confirmDead: boolean }, context) =>
        asHolder(database, context, async (tx) => {
          const [noted] = await noteFenced(tx, { hostId, operationId: context.operationId, confirmDead });
          if (!noted)
            throw refuse(
              'PRECONDITION_FAILED',
              `host ${hostId} is not shut out of its storage, so nothing of it is started elsewhere: retry the fence, or switch the host off and let it fail over with confirmDead`,
            );
          // That it is out is known now. What is wrong with its BMC is so still.
          const what = [...Object.values(silenceFindings), ...ownFindings];
          await seenNoMore(tx, { resourceKind: 'host', resourceIds: [hostId], what });
        }),
    }),

    findStranded: step({
      system: 'record',
      do: ({ hostId }: HostRef): Promise<Stranded[]> => strandedOn(database.connections, { hostId }),
    }),

    /** Whatever it has kept of guests: those that were started elsewhere meanwhile, and those that wait for it. */
    clearStrays: step({
      system: 'libvirt',
      async do({ hostId }: HostRef) {
        const agent = await world.host(hostId);
        const { domains } = await agent.call('host.inventory', {});
        for (const { id, tags } of domains) {
          if (tags?.kind !== 'instance') continue;
          await agent.call('domain.ensureAbsent', { id });
          await agent.call('domain.ensureSerialLogAbsent', { id });
        }
      },
    }),

    unfence: step({
      system: 'rbd',
      do: async ({ hostId }: HostRef) => unfenceStorage(world, await find(hostId)),
      undoText: 'shut it out again',
      undo: async ({ hostId }) => fenceStorage(world, await find(hostId)),
    }),

    proveWritable: step({
      system: 'rbd',
      do: async ({ hostId }: HostRef) => proveStorageWritable(world, await find(hostId)),
    }),

    readmit: step({
      system: 'record',
      do: ({ hostId }: HostRef, context) =>
        asHolder(database, context, async (tx) => {
          await readmit(tx, { hostId, operationId: context.operationId });
        }),
    }),
  };
};
