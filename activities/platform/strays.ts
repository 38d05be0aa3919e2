/** Guests on hosts where they are not at home. */
import { atHomeOn } from '../../database/audit.ts';
import { guestsOn } from '../compute/drivers/index.ts';
import { refuse } from '../failure.ts';
import { unlessFenced } from '../silence.ts';
import { step } from '../step.ts';
import type { World } from '../world.ts';

interface Stray {
  hostId: string;
  instanceId: string;
}

export const strays = (world: World) => ({
  /** The instance, where there is one, is held: it does not come here meanwhile. */
  findStray: step({
    system: 'record',
    async do({ hostId, instanceId }: Stray) {
      const [home] = await atHomeOn(world.database.connections, { hostId, instanceId });
      if (home)
        throw refuse('INVALID_STATE', `instance ${instanceId} is at home on host ${hostId}, or on its way there`);
    },
  }),

  removeStray: step({
    system: 'libvirt',
    async do({ hostId, instanceId }: Stray) {
      await unlessFenced(world, hostId, async () => {
        const guests = await guestsOn(world, hostId);
        await guests.ensureAbsent(instanceId);
        await guests.ensureSerialLogAbsent(instanceId);
      });
    },
  }),
});
