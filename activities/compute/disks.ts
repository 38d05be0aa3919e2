/** Volumes and snapshots as a guest takes part in them: steps of the areas `volumes` and `snapshots`, whose own files know of no guest. */
import { from, statement, type Values } from '../../database/statement.ts';
import { AgentError } from '../../host-agent/agentError.ts';
import { refuse } from '../failure.ts';
import { isGone, unlessGone } from '../silence.ts';
import { step } from '../step.ts';
import { mustBeAble } from '../storage/drivers/index.ts';
import { removeSnapshot, takeSnapshot } from '../storage/snapshot.ts';
import { diskOf, type OneVolume, oneOf, setSizeInPool } from '../storage/volume.ts';
import type { World } from '../world.ts';
import { guestsOn } from './drivers/index.ts';

type OnGuest = OneVolume & { instanceId: string };

const isThere = statement((p: Values<OnGuest>) =>
  from
    .selectFrom('instance as i')
    .innerJoin('volume as v', 'v.instanceId', 'i.id')
    .select('i.id')
    .where('v.id', '=', p.volumeId)
    .where('i.id', '=', p.instanceId)
    .where('i.hostId', '=', p.hostId),
);

export const guestVolumes = (world: World) => ({
  /** Live, in the guest and its definition. */
  plug: step({
    system: 'libvirt',
    async do({ hostId, volumeId, instanceId }: OnGuest) {
      const volume = await oneOf(world, volumeId);
      await (await guestsOn(world, hostId)).ensureDisk(instanceId, diskOf(volume));
    },
    undoText: 'unplug',
    undo: ({ hostId, volumeId, instanceId }) =>
      unlessGone(world, { instanceId, hostId }, async () =>
        (await guestsOn(world, hostId)).ensureDiskAbsent(instanceId, volumeId, false),
      ),
  }),

  unplug: step({
    system: 'libvirt',
    async do({ hostId, volumeId, instanceId }: OnGuest) {
      // Where the records say, and nowhere else: a guest that runs elsewhere holds the disk there.
      const [there] = await isThere(world.database.connections, { volumeId, instanceId, hostId });
      if (!there)
        throw refuse('INVALID_STATE', `instance ${instanceId} is not on host ${hostId} with volume ${volumeId}`);
      await unlessGone(world, { instanceId, hostId }, async () =>
        (await guestsOn(world, hostId)).ensureDiskAbsent(instanceId, volumeId, true),
      );
    },
    undoText: 'plug in again',
    async undo({ hostId, volumeId, instanceId }) {
      const volume = await oneOf(world, volumeId);
      await unlessGone(world, { instanceId, hostId }, async () =>
        (await guestsOn(world, hostId)).ensureDisk(instanceId, diskOf(volume)).catch((error: unknown) => {
          // A guest that has ended by itself has no disk to be plugged in again; that it has ended is noticed elsewhere.
          if (!(error instanceof AgentError) || error.code !== 'NOT_FOUND') throw error;
        }),
      );
    },
  }),

  /** Grows a volume that no running guest has. Runs that began before `growLive` was a step of its own name an instance that has it. */
  grow: step({
    system: 'rbd',
    async do({
      hostId,
      volumeId,
      sizeGib,
      instanceId,
    }: OneVolume & { sizeGib: number; fromSizeGib: number; instanceId: string | null }) {
      if (!instanceId) return setSizeInPool(world, { hostId, volumeId }, { sizeGib, allowShrink: false });
      mustBeAble((await oneOf(world, volumeId)).pool, 'growInUse');
      await (await guestsOn(world, hostId)).growDisk(instanceId, volumeId, sizeGib);
    },
    undoText: 'shrink back',
    async undo({ hostId, volumeId, fromSizeGib, instanceId }) {
      // In use it can not shrink again: the guest may have written there. Detached, the new space is untouched.
      if (instanceId) return;
      await setSizeInPool(world, { hostId, volumeId }, { sizeGib: fromSizeGib, allowShrink: true });
    },
  }),

  /** Through the guest's host, so that the guest sees it at once, and may write there: it can not shrink again. */
  growLive: step({
    system: 'libvirt',
    async do({ hostId, volumeId, sizeGib, instanceId }: OnGuest & { sizeGib: number }) {
      mustBeAble((await oneOf(world, volumeId)).pool, 'growInUse');
      await (await guestsOn(world, hostId)).growDisk(instanceId, volumeId, sizeGib);
    },
  }),
});

interface Snapshot {
  snapshotId: string;
  hostId: string;
  freezeInstanceId: string | null;
}

export const guestSnapshots = (world: World) => ({
  /** The snapshot, between freeze and thaw when the guest is to be quiesced: it is thawed whatever happens. */
  take: step({
    system: 'rbd',
    async do({ freezeInstanceId, ...snapshot }: Snapshot, context): Promise<{ frozen: boolean }> {
      if (!freezeInstanceId) {
        await takeSnapshot(world, snapshot, context);
        return { frozen: false };
      }
      const guests = await guestsOn(world, snapshot.hostId);
      try {
        const frozen = await guests.freeze(freezeInstanceId);
        await takeSnapshot(world, snapshot, context);
        return { frozen };
      } finally {
        await guests.thaw(freezeInstanceId);
      }
    },
    undoText: 'remove, thaw',
    async undo({ freezeInstanceId, ...snapshot }) {
      await removeSnapshot(world, snapshot);
      // A guest that was frozen on a host that is away is thawed when that is back; on a dead one there is none.
      if (freezeInstanceId && !(await isGone(world, { instanceId: freezeInstanceId, hostId: snapshot.hostId })))
        await (await guestsOn(world, snapshot.hostId)).thaw(freezeInstanceId);
    },
  }),
});
