import { Context } from '@temporalio/activity';
import { takingBack } from '../../database/placement.ts';
import { firstBootOf, takeSlot, type VolumeInPool, volumesByIds, volumesOfInstance } from '../../database/pools.ts';
import { readSecret } from '../../database/secrets.ts';
import { from, statement, type Values } from '../../database/statement.ts';
import type { HostInStep } from '../../host-agent/connection.ts';
import type { DiskSource, DiskSpec, Tags } from '../../host-agent/protocol.ts';
import { diskSlots } from '../../model/storage/volume.ts';
import { refuse } from '../failure.ts';
import { asHolder, speakFor } from '../holder.ts';
import { mustAnswer } from '../silence.ts';
import { type StepContext, step } from '../step.ts';
import type { World } from '../world.ts';
import type { Origin, Pool, StorageDriver } from './drivers/driver.ts';
import { driverOf, mustBeAble } from './drivers/index.ts';
import { safetyName, snapshotName } from './names.ts';
import { poolOf } from './pool.ts';
import { poolAgent, reachingHost } from './poolHost.ts';

interface Volumes {
  hostId: string;
  volumeIds: string[];
}
export interface OneVolume {
  hostId: string;
  volumeId: string;
}

export type VolumeRow = VolumeInPool & { pool: Pool; qos: DiskSpec['qos'] | null };

/** Volumes with the pool they are in, in attachment order. */
export const volumeRows = async (world: World, ids: string[]): Promise<VolumeRow[]> =>
  (await volumesByIds(world.database.connections, { ids })) as VolumeRow[];

/** The living volumes of an instance, in attachment order. */
export const volumesOf = async (world: World, instanceId: string): Promise<VolumeRow[]> =>
  (await volumesOfInstance(world.database.connections, { instanceId })) as VolumeRow[];

export const diskOf = (volume: VolumeRow): DiskSpec => ({
  source: driverOf(volume.pool).source(volume.pool, { of: 'volume', id: volume.id }),
  volumeId: volume.id,
  readOnly: false,
  boot: volume.role === 'root',
  ...(volume.qos ? { qos: volume.qos } : {}),
});

/** First-boot data of an instance, which lies beside its root volume. */
export const seedOf = (root: VolumeRow, instanceId: string): DiskSource =>
  driverOf(root.pool).source(root.pool, { of: 'seed', id: instanceId });

const tagsOf = (
  volume: { id: string; projectId: string; revision: number },
  kind: string,
  { operationId }: StepContext,
): Tags => ({
  id: volume.id,
  kind,
  operation: operationId,
  revision: volume.revision,
  projectId: volume.projectId,
});

export async function oneOf(world: World, volumeId: string): Promise<VolumeRow> {
  const [volume] = await volumeRows(world, [volumeId]);
  if (!volume) throw refuse('NOT_FOUND', `volume ${volumeId} is in no pool`);
  return volume;
}

/** A volume's driver, and whoever does the work on its pool. */
async function workOn(world: World, hostId: string, { pool }: VolumeRow): Promise<[StorageDriver, HostInStep]> {
  return [driverOf(pool), await poolAgent(world, hostId, pool)];
}

async function originOf(world: World, { source }: VolumeRow): Promise<Origin | null> {
  if (source?.imageId) return { imageId: source.imageId };
  if (!source?.snapshotId) return null;
  const { id, volumeId, poolId } = await world.database.prisma.snapshot.findUniqueOrThrow({
    where: { id: source.snapshotId },
  });
  return { snapshotId: id, volumeId, pool: await poolOf(world, poolId) };
}

async function makeOne(world: World, hostId: string, volume: VolumeRow, context: StepContext): Promise<void> {
  const { id, pool, sizeGib } = volume;
  const content = { sizeGib, tags: tagsOf(volume, 'volume', context) };
  const from = await originOf(world, volume);
  if (from) mustBeAble(pool, 'clone');
  const [driver, agent] = await workOn(world, hostId, volume);
  if (from) await driver.ensureClone(agent, pool, id, { ...content, from });
  else await driver.ensureBlank(agent, pool, id, content);
}

/** First-boot data of an instance, beside its root volume. */
async function makeSeed(
  world: World,
  hostId: string,
  instanceId: string,
  root: VolumeRow,
  context: StepContext,
): Promise<void> {
  const [instance] = await firstBootOf(world.database.connections, { instanceId });
  if (!instance) throw refuse('NOT_FOUND', `instance ${instanceId} is gone`);
  const [driver, agent] = await workOn(world, hostId, root);
  await driver.ensureSeed(agent, root.pool, {
    tags: tagsOf(instance, 'instance', context),
    instanceId,
    hostname: instance.guestHostname ?? instanceId,
    sshKeys: instance.sshKeys,
    userData: await readSecret(world.database, { kind: 'instance', id: instanceId }, 'userData'),
    userDataEncoding: instance.userDataEncoding,
  });
}

/** Of a volume that no running guest uses. */
export async function setSizeInPool(
  world: World,
  { hostId, volumeId }: OneVolume,
  size: { sizeGib: number; allowShrink: boolean },
): Promise<void> {
  const volume = await oneOf(world, volumeId);
  const [driver, agent] = await workOn(world, hostId, volume);
  await driver.ensureSize(agent, volume.pool, volumeId, size);
}

async function rollBack(world: World, { hostId, volumeId }: OneVolume, snapshot: string): Promise<void> {
  const { cancellationSignal: signal } = Context.current();
  const volume = await oneOf(world, volumeId);
  const [driver, agent] = await workOn(world, hostId, volume);
  await driver.rollBack(agent, volume.pool, volumeId, snapshot, { signal });
}

async function dropSafetySnapshot(world: World, { hostId, volumeId }: OneVolume, operationId: string): Promise<void> {
  const volume = await oneOf(world, volumeId);
  const [driver, agent] = await workOn(world, hostId, volume);
  await driver.ensureSnapshotAbsent(agent, volume.pool, volumeId, { name: safetyName(operationId) });
}

async function setTrashed(world: World, { hostId, volumeIds }: Volumes, trashed: boolean): Promise<void> {
  for (const volume of await volumeRows(world, volumeIds)) {
    const [driver, agent] = await workOn(world, hostId, volume);
    await driver[trashed ? 'ensureTrashed' : 'ensureRestored'](agent, volume.pool, volume.id);
  }
}

export const volumes = (world: World) => ({
  /** The volumes' images: clones of a cached image or a snapshot, or blank; with `instanceId` also its first-boot seed. */
  make: step({
    system: 'rbd',
    async do({ hostId, volumeIds, instanceId }: Volumes & { instanceId?: string }, context) {
      const rows = await volumeRows(world, volumeIds);
      const root = rows.find((volume) => volume.role === 'root');
      await Promise.all([
        ...rows.map((volume) => makeOne(world, hostId, volume, context)),
        ...(instanceId && root ? [makeSeed(world, hostId, instanceId, root, context)] : []),
      ]);
    },
    undoText: 'remove images and seed',
    async undo({ hostId, volumeIds, instanceId }, { operationId }) {
      for (const volume of await volumeRows(world, volumeIds)) {
        const { id, pool, role } = volume;
        const [driver, agent] = await workOn(world, hostId, volume);
        const only = { onlyOperation: operationId };
        await driver.ensureAbsent(agent, pool, { of: 'volume', id }, only);
        if (instanceId && role === 'root') await driver.ensureAbsent(agent, pool, { of: 'seed', id: instanceId }, only);
      }
    },
  }),

  /** One that is no part of an instance, and has no seed. */
  makeOne: step({
    system: 'rbd',
    async do({ hostId, volumeId }: OneVolume, context) {
      await makeOne(world, hostId, await oneOf(world, volumeId), context);
    },
    undoText: 'remove image',
    async undo({ hostId, volumeId }, { operationId }) {
      const volume = await oneOf(world, volumeId);
      const [driver, agent] = await workOn(world, hostId, volume);
      await driver.ensureAbsent(agent, volume.pool, { of: 'volume', id: volumeId }, { onlyOperation: operationId });
    },
  }),

  /** Out of sight, and back: nothing is lost until they are expunged. */
  trash: step({
    system: 'rbd',
    do: (input: Volumes) => setTrashed(world, input, true),
    undoText: 'restore',
    undo: (input) => setTrashed(world, input, false),
  }),

  restore: step({
    system: 'rbd',
    do: (input: Volumes) => setTrashed(world, input, false),
    undoText: 'trash again',
    undo: (input) => setTrashed(world, input, true),
  }),

  /** For good: the volumes, and an instance's seed, which lies beside its root volume even when that one is kept. */
  expunge: step({
    system: 'rbd',
    async do({ hostId, volumeIds, instanceId }: Volumes & { instanceId?: string }) {
      const { cancellationSignal: signal } = Context.current();
      for (const volume of await volumeRows(world, volumeIds)) {
        const [driver, agent] = await workOn(world, hostId, volume);
        await driver.ensureExpunged(agent, volume.pool, volume.id, { signal });
      }
      if (!instanceId) return;
      const instance = await world.database.prisma.instance.findUniqueOrThrow({ where: { id: instanceId } });
      for (const root of await volumeRows(world, instance.rootVolumeId ? [instance.rootVolumeId] : [])) {
        const [driver, agent] = await workOn(world, hostId, root);
        await driver.ensureAbsent(agent, root.pool, { of: 'seed', id: instanceId });
      }
    },
  }),

  takeSafetySnapshot: step({
    system: 'rbd',
    async do({ hostId, volumeId }: OneVolume, context) {
      const volume = await oneOf(world, volumeId);
      mustBeAble(volume.pool, 'snapshot');
      const [driver, agent] = await workOn(world, hostId, volume);
      const name = safetyName(context.operationId);
      await driver.ensureSnapshot(agent, volume.pool, volumeId, { name, tags: tagsOf(volume, 'volume', context) });
    },
    undoText: 'remove',
    undo: (input, { operationId }) => dropSafetySnapshot(world, input, operationId),
  }),

  rollBack: step({
    system: 'rbd',
    do: ({ hostId, volumeId, snapshotId }: OneVolume & { snapshotId: string }) =>
      rollBack(world, { hostId, volumeId }, snapshotName(snapshotId)),
    undoText: 'roll back to safety',
    undo: ({ hostId, volumeId }, { operationId }) => rollBack(world, { hostId, volumeId }, safetyName(operationId)),
  }),

  dropSafetySnapshot: step({
    system: 'rbd',
    do: (input: OneVolume, { operationId }) => dropSafetySnapshot(world, input, operationId),
  }),
});

const setSize = statement((p: Values<{ id: string; sizeGib: number }>) =>
  from.updateTable('volume').set({ sizeGib: p.sizeGib }).where('id', '=', p.id),
);

const freeSlot = statement((p: Values<{ volumeId: string; instanceId: string }>) =>
  from
    .updateTable('volume')
    .set({ instanceId: null, deviceIndex: null })
    .where('id', '=', p.volumeId)
    .where('instanceId', '=', p.instanceId),
);

const giveSlot = statement((p: Values<{ volumeId: string; instanceId: string; deviceIndex: number | null }>) =>
  from.updateTable('volume').set({ instanceId: p.instanceId, deviceIndex: p.deviceIndex }).where('id', '=', p.volumeId),
);

const keepRoot = statement((p: Values<{ instanceId: string }>) =>
  from
    .updateTable('volume')
    .set({ role: 'data', instanceId: null, deviceIndex: null })
    .where('instanceId', '=', p.instanceId)
    .where('role', '=', 'root')
    .where('deletedAt', 'is', null),
);

export interface Located {
  hostId: string;
  instanceHostId: string | null;
  instanceId: string | null;
  deviceIndex: number | null;
  sizeGib: number;
  poolId: string;
  /** What it is made from, when that is an image. */
  imageId: string | null;
}

/** What volume steps need to know and records hold. */
export const volumeRecords = (world: World) => ({
  /** Where the work on a volume is done: on its running instance's host, else on any that reaches the pool. */
  locate: step({
    system: 'record',
    async do({ volumeId }: { volumeId: string }): Promise<Located> {
      const volume = await world.database.prisma.volume.findUniqueOrThrow({ where: { id: volumeId } });
      if (!volume.poolId) throw refuse('INVALID_STATE', `volume ${volumeId} is in no pool`);
      const instance = volume.instanceId
        ? await world.database.prisma.instance.findUnique({ where: { id: volume.instanceId } })
        : null;
      const instanceHostId = instance?.hostId ?? null;
      await mustAnswer(world.database.connections, instance);
      return {
        hostId: instanceHostId ?? (await reachingHost(world.database.connections, volume.poolId)),
        instanceHostId,
        instanceId: volume.instanceId,
        deviceIndex: volume.deviceIndex,
        sizeGib: volume.sizeGib ?? 0,
        poolId: volume.poolId,
        imageId: (volume.source as { imageId?: string } | null)?.imageId ?? null,
      };
    },
  }),

  /** The data volumes of an instance, in attachment order. */
  attached: step({
    system: 'record',
    async do({ instanceId }: { instanceId: string }): Promise<{ volumeId: string; deviceIndex: number | null }[]> {
      const attached = await world.database.prisma.volume.findMany({
        where: { instanceId, role: 'data', deletedAt: null },
        orderBy: [{ deviceIndex: 'asc' }, { id: 'asc' }],
      });
      return attached.map(({ id, deviceIndex }) => ({ volumeId: id, deviceIndex }));
    },
  }),

  /** The attachment in the records: which instance, which slot. */
  reserveSlot: step({
    system: 'record',
    async do(
      { volumeId, instanceId }: { volumeId: string; instanceId: string },
      context,
    ): Promise<{ hostId: string | null }> {
      await asHolder(world.database, context, (tx) => takeSlot(tx, { volumeId, instanceId, slots: diskSlots }));
      const volume = await world.database.prisma.volume.findUniqueOrThrow({ where: { id: volumeId } });
      if (!volume.instanceId)
        throw refuse('NOT_SUPPORTED', `instance ${instanceId} has ${diskSlots} disks, and can have no more`);
      if (volume.instanceId !== instanceId)
        throw refuse('ALREADY_ATTACHED', `volume ${volumeId} is attached to instance ${volume.instanceId}`);
      const instance = await world.database.prisma.instance.findUniqueOrThrow({ where: { id: instanceId } });
      await mustAnswer(world.database.connections, instance);
      return { hostId: instance.hostId };
    },
    undoText: 'free slot',
    undo: ({ volumeId, instanceId }, context) =>
      asHolder(world.database, context, async (tx) => void (await freeSlot(tx, { volumeId, instanceId }))),
  }),

  freeSlot: step({
    system: 'record',
    do: (
      { volumeId, instanceId }: { volumeId: string; instanceId: string; deviceIndex: number | null },
      context,
    ): Promise<void> =>
      asHolder(world.database, context, async (tx) => void (await freeSlot(tx, { volumeId, instanceId }))),
    undoText: 'reserve again',
    async undo({ volumeId, instanceId, deviceIndex }, context) {
      await asHolder(world.database, context, (tx) => giveSlot(tx, { volumeId, instanceId, deviceIndex }));
    },
  }),

  /** The root volume that an expunged instance leaves behind is a volume like any other. */
  keepRoot: step({
    system: 'record',
    async do({ instanceId }: { instanceId: string }, context) {
      await asHolder(world.database, context, (tx) => keepRoot(tx, { instanceId }));
    },
  }),

  /** Room for a volume to grow in its pool. What a volume was promised is its size in the records, so this is the claim: the database decides. */
  claimGrowth: step({
    system: 'record',
    async do({ volumeId, sizeGib, fromSizeGib }: { volumeId: string; sizeGib: number; fromSizeGib: number }, context) {
      if (sizeGib < fromSizeGib)
        throw refuse('INVALID_ARGUMENT', `volume ${volumeId} has ${fromSizeGib} GiB; volumes only grow`);
      await asHolder(world.database, context, (tx) => setSize(tx, { id: volumeId, sizeGib }));
    },
    undoText: 'old size',
    async undo({ volumeId, fromSizeGib }, context) {
      await asHolder(world.database, context, (tx) => setSize(tx, { id: volumeId, sizeGib: fromSizeGib }));
    },
  }),

  /** The size that a volume has been given; a larger one than before must have room in its pool. */
  recordSize: step({
    system: 'record',
    async do({ volumeId, sizeGib }: { volumeId: string; sizeGib: number; fromSizeGib: number }, context) {
      await asHolder(world.database, context, (tx) => setSize(tx, { id: volumeId, sizeGib }));
    },
    undoText: 'old size',
    async undo({ volumeId, fromSizeGib }, context) {
      await takingBack(world.database, async (tx) => {
        await speakFor(tx, context);
        await setSize(tx, { id: volumeId, sizeGib: fromSizeGib });
      });
    },
  }),
});
