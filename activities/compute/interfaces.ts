/** Network interfaces as a guest takes part in them: steps of the area `networkInterfaces`, whose own file knows of no guest. */
import { from, statement, type Values } from '../../database/statement.ts';
import { AgentError } from '../../host-agent/agentError.ts';
import type { InterfaceSpec } from '../../host-agent/protocol.ts';
import { refuse } from '../failure.ts';
import { unlessGone } from '../silence.ts';
import { step } from '../step.ts';
import type { World } from '../world.ts';
import { guestsOn } from './drivers/index.ts';

interface OnGuest {
  networkInterfaceId: string;
  instanceId: string;
  hostId: string;
}

const isThere = statement((p: Values<OnGuest>) =>
  from
    .selectFrom('instance as i')
    .innerJoin('networkInterface as n', 'n.instanceId', 'i.id')
    .select('i.id')
    .where('n.id', '=', p.networkInterfaceId)
    .where('i.id', '=', p.instanceId)
    .where('i.hostId', '=', p.hostId),
);

/** Guests see 1500 whatever the tunnel costs. Of a link that is up nothing is said: agents of before know of none that is down. */
export const interfaceSpec = ({
  id,
  mac,
  linkUp,
}: {
  id: string;
  mac: string | null;
  linkUp: boolean;
}): InterfaceSpec => ({ id, mac: mac ?? '', mtu: 1500, ...(linkUp ? {} : { linkUp }) });

export const guestInterfaces = (world: World) => {
  async function plugIn({ networkInterfaceId, instanceId, hostId }: OnGuest, linkUp?: boolean): Promise<void> {
    const nic = await world.database.prisma.networkInterface.findUniqueOrThrow({ where: { id: networkInterfaceId } });
    const spec = interfaceSpec({ ...nic, linkUp: linkUp ?? nic.linkUp });
    await (await guestsOn(world, hostId)).ensureInterface(instanceId, spec);
  }
  /** A guest that has ended by itself has nothing to be plugged in again; that it has ended is noticed elsewhere. */
  const plugAgain = (on: OnGuest): Promise<void> =>
    unlessGone(world, on, () =>
      plugIn(on).catch((error: unknown) => {
        if (!(error instanceof AgentError) || error.code !== 'NOT_FOUND') throw error;
      }),
    );

  return {
    /** Live, in the guest and its definition. */
    hotPlug: step({
      system: 'libvirt',
      do: (on: OnGuest) => plugIn(on),
      undoText: 'unplug',
      undo: ({ networkInterfaceId, ...on }) =>
        unlessGone(world, on, async () =>
          (await guestsOn(world, on.hostId)).ensureInterfaceAbsent(on.instanceId, networkInterfaceId, false),
        ),
    }),

    /** The guest is asked to let go of it, and has. */
    hotUnplug: step({
      system: 'libvirt',
      async do(on: OnGuest) {
        const [there] = await isThere(world.database.connections, on);
        if (!there)
          throw refuse(
            'INVALID_STATE',
            `instance ${on.instanceId} is not on host ${on.hostId} with interface ${on.networkInterfaceId}`,
          );
        await unlessGone(world, on, async () =>
          (await guestsOn(world, on.hostId)).ensureInterfaceAbsent(on.instanceId, on.networkInterfaceId, true),
        );
      },
      undoText: 'plug in again',
      undo: plugAgain,
    }),

    setLink: step({
      system: 'libvirt',
      do: ({ linkUp, ...on }: OnGuest & { linkUp: boolean }) => plugIn(on, linkUp),
      undoText: 'old link',
      undo: ({ linkUp: _, ...on }) => plugAgain(on),
    }),
  };
};
