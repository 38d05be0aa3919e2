import { Context } from '@temporalio/activity';
import { type Client, run } from '../../database/database.ts';
import { takingBack } from '../../database/placement.ts';
import { readSecret } from '../../database/secrets.ts';
import { AgentError } from '../../host-agent/agentError.ts';
import type { HostInStep } from '../../host-agent/connection.ts';
import type { DiskSpec, ImageAddress, Tags } from '../../host-agent/protocol.ts';
import { diskSlots } from '../../model/storage/volume.ts';
import { reachingHost } from '../compute/placement.ts';
import { mustAnswer, unlessDead } from '../compute/silence.ts';
import { refuse } from '../failure.ts';
import { asHolder, speakFor } from '../holder.ts';
import { type StepContext, step } from '../step.ts';
import type { World } from '../world.ts';
import { baseSnapshot, cachedImage, seedImage, snapshotName, volumeImage } from './names.ts';
import { poolAddress } from './pool.ts';
import { poolAgent } from './poolHost.ts';

interface Volumes {
  hostId: string;
  volumeIds: string[];
}
interface OneVolume {
  hostId: string;
  volumeId: string;
}

export interface VolumeRow {
  id: string;
  projectId: string;
  sizeGib: number;
  poolId: string | null;
  role: string;
  instanceId: string | null;
  deviceIndex: number | null;
  source: { imageId?: string; snapshotId?: string } | null;
  revision: number;
  storageClusterId: string;
  pool: string;
  qos: DiskSpec['qos'] | null;
}

const volumesWhere = (condition: string): string =>
  `SELECT v.id, v."projectId", v."sizeGib", v."poolId", v.role, v."instanceId", v."deviceIndex", v.source, v.revision, p."storageClusterId", p.pool, t.qos
   FROM "volume" v JOIN "storagePool" p ON p.id = v."poolId" LEFT JOIN "volumeType" t ON t.id = v."volumeTypeId"
   WHERE ${condition} ORDER BY v."deviceIndex" NULLS LAST, v.id`;

/** Volumes with the pool they are in, in attachment order. */
export const volumeRows = (world: World, ids: string[]): Promise<VolumeRow[]> =>
  run<VolumeRow>(world.database.pool, volumesWhere('v.id = ANY($1::uuid[])'), [ids]);

/** The living volumes of an instance, in attachment order. */
export const volumesOf = (world: World, instanceId: string): Promise<VolumeRow[]> =>
  run<VolumeRow>(world.database.pool, volumesWhere('v."instanceId" = $1 AND v."deletedAt" IS NULL'), [instanceId]);

export const addressOf = (volume: VolumeRow): ImageAddress => ({
  storageClusterId: volume.storageClusterId,
  pool: volume.pool,
  image: volumeImage(volume.id),
});

export const diskOf = (volume: VolumeRow): DiskSpec => ({
  ...addressOf(volume),
  volumeId: volume.id,
  readOnly: false,
  boot: volume.role === 'root',
  ...(volume.qos ? { qos: volume.qos } : {}),
});

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

async function oneOf(world: World, volumeId: string): Promise<VolumeRow> {
  const [volume] = await volumeRows(world, [volumeId]);
  if (!volume) throw refuse('NOT_FOUND', `volume ${volumeId} is in no pool`);
  return volume;
}

/** Whoever does the work on a volume's pool. */
const agentFor = (world: World, hostId: string, { id, poolId }: VolumeRow): Promise<HostInStep> => {
  if (!poolId) throw refuse('INVALID_STATE', `volume ${id} is in no pool`);
  return poolAgent(world, hostId, poolId);
};

async function makeOne(world: World, hostId: string, volume: VolumeRow, context: StepContext): Promise<void> {
  const agent = await agentFor(world, hostId, volume);
  const address = addressOf(volume);
  const tags = tagsOf(volume, 'volume', context);
  if (volume.source?.imageId) {
    const from = { pool: volume.pool, image: cachedImage(volume.source.imageId), snapshot: baseSnapshot };
    await agent.call('rbd.ensureClone', { ...address, from, sizeGib: volume.sizeGib, tags });
  } else if (volume.source?.snapshotId) {
    const snapshot = await world.database.prisma.snapshot.findUniqueOrThrow({
      where: { id: volume.source.snapshotId },
    });
    const { pool } = await poolAddress(world, snapshot.poolId);
    const from = { pool, image: volumeImage(snapshot.volumeId), snapshot: snapshotName(snapshot.id) };
    await agent.call('rbd.ensureClone', { ...address, from, sizeGib: volume.sizeGib, tags });
  } else {
    await agent.call('rbd.ensureImage', { ...address, sizeGib: volume.sizeGib, tags });
  }
}

/** First-boot data of an instance, beside its root volume. */
async function makeSeed(
  world: World,
  hostId: string,
  instanceId: string,
  root: VolumeRow,
  context: StepContext,
): Promise<void> {
  const [instance] = await run<{
    id: string;
    projectId: string;
    revision: number;
    guestHostname: string | null;
    userDataEncoding: 'plain' | 'base64';
    sshKeys: string[];
  }>(
    world.database.pool,
    `SELECT id, "projectId", revision, "guestHostname", "userDataEncoding",
            ARRAY(SELECT k."publicKey" FROM "keyPair" k WHERE k.id = ANY(i."keyPairIds")) AS "sshKeys"
     FROM "instance" i WHERE id = $1`,
    [instanceId],
  );
  if (!instance) throw refuse('NOT_FOUND', `instance ${instanceId} is gone`);
  const agent = await agentFor(world, hostId, root);
  await agent.call('seed.ensure', {
    storageClusterId: root.storageClusterId,
    pool: root.pool,
    image: seedImage(instanceId),
    tags: tagsOf(instance, 'instance', context),
    instanceId,
    hostname: instance.guestHostname ?? instanceId,
    sshKeys: instance.sshKeys,
    userData: await readSecret(world.database, { kind: 'instance', id: instanceId }, 'userData'),
    userDataEncoding: instance.userDataEncoding,
  });
}

const rollBack = async (world: World, { hostId, volumeId }: OneVolume, snapshot: string): Promise<void> => {
  const { cancellationSignal: signal } = Context.current();
  const volume = await oneOf(world, volumeId);
  const agent = await agentFor(world, hostId, volume);
  await agent.call('rbd.rollBack', { ...addressOf(volume), snapshot }, { signal });
};

export const volumes = (world: World) => ({
  /** The volumes' images: clones of a cached image or a snapshot, or blank; with `instanceId` also its first-boot seed. */
  make: step({
    async do({ hostId, volumeIds, instanceId }: Volumes & { instanceId?: string }, context) {
      const rows = await volumeRows(world, volumeIds);
      const root = rows.find((volume) => volume.role === 'root');
      await Promise.all([
        ...rows.map((volume) => makeOne(world, hostId, volume, context)),
        ...(instanceId && root ? [makeSeed(world, hostId, instanceId, root, context)] : []),
      ]);
    },
    async undo({ hostId, volumeIds, instanceId }, { operationId }) {
      for (const volume of await volumeRows(world, volumeIds)) {
        const agent = await agentFor(world, hostId, volume);
        await agent.call('rbd.ensureImageAbsent', { ...addressOf(volume), onlyOperation: operationId });
        if (instanceId && volume.role === 'root')
          await agent.call('rbd.ensureImageAbsent', {
            ...addressOf(volume),
            image: seedImage(instanceId),
            onlyOperation: operationId,
          });
      }
    },
  }),

  /** Out of sight, and back: nothing is lost until they are expunged. */
  trash: step({
    async do({ hostId, volumeIds }: Volumes) {
      for (const volume of await volumeRows(world, volumeIds))
        await (await agentFor(world, hostId, volume)).call('rbd.ensureTrashed', addressOf(volume));
    },
    async undo({ hostId, volumeIds }) {
      for (const volume of await volumeRows(world, volumeIds))
        await (await agentFor(world, hostId, volume)).call('rbd.ensureRestored', addressOf(volume));
    },
  }),

  restore: step({
    async do({ hostId, volumeIds }: Volumes) {
      for (const volume of await volumeRows(world, volumeIds))
        await (await agentFor(world, hostId, volume)).call('rbd.ensureRestored', addressOf(volume));
    },
    async undo({ hostId, volumeIds }) {
      for (const volume of await volumeRows(world, volumeIds))
        await (await agentFor(world, hostId, volume)).call('rbd.ensureTrashed', addressOf(volume));
    },
  }),

  /** For good: the images, and an instance's seed, which lies beside its root volume even when that one is kept. */
  expunge: step({
    async do({ hostId, volumeIds, instanceId }: Volumes & { instanceId?: string }) {
      const { cancellationSignal: signal } = Context.current();
      for (const volume of await volumeRows(world, volumeIds))
        await (await agentFor(world, hostId, volume)).call('rbd.ensureExpunged', addressOf(volume), { signal });
      if (!instanceId) return;
      const instance = await world.database.prisma.instance.findUniqueOrThrow({ where: { id: instanceId } });
      for (const root of await volumeRows(world, instance.rootVolumeId ? [instance.rootVolumeId] : []))
        await (await agentFor(world, hostId, root)).call('rbd.ensureImageAbsent', {
          ...addressOf(root),
          image: seedImage(instanceId),
        });
    },
  }),

  /** Live, in the domain and its definition. */
  plug: step({
    async do({ hostId, volumeId, instanceId }: OneVolume & { instanceId: string }) {
      const volume = await oneOf(world, volumeId);
      await (await world.host(hostId)).call('domain.ensureDisk', { id: instanceId, disk: diskOf(volume) });
    },
    async undo({ hostId, volumeId, instanceId }) {
      await unlessDead(world, hostId, (agent) =>
        agent.call('domain.ensureDiskAbsent', { id: instanceId, volumeId, mustBeThere: false }),
      );
    },
  }),

  unplug: step({
    async do({ hostId, volumeId, instanceId }: OneVolume & { instanceId: string }) {
      // Where the records say, and nowhere else: a guest that runs elsewhere holds the disk there.
      const [there] = await run(
        world.database.pool,
        `SELECT 1 FROM "instance" i JOIN "volume" v ON v."instanceId" = i.id WHERE v.id = $1 AND i.id = $2 AND i."hostId" = $3`,
        [volumeId, instanceId, hostId],
      );
      if (!there)
        throw refuse('INVALID_STATE', `instance ${instanceId} is not on host ${hostId} with volume ${volumeId}`);
      await unlessDead(world, hostId, (agent) =>
        agent.call('domain.ensureDiskAbsent', { id: instanceId, volumeId, mustBeThere: true }),
      );
    },
    async undo({ hostId, volumeId, instanceId }) {
      const volume = await oneOf(world, volumeId);
      await unlessDead(world, hostId, (agent) =>
        agent.call('domain.ensureDisk', { id: instanceId, disk: diskOf(volume) }).catch((error: unknown) => {
          // A guest that has ended by itself has no disk to be plugged in again; that it has ended is noticed elsewhere.
          if (!(error instanceof AgentError) || error.code !== 'NOT_FOUND') throw error;
        }),
      );
    },
  }),

  /** Grows the image; in use, through QEMU, so that the guest sees it at once. */
  grow: step({
    async do({
      hostId,
      volumeId,
      sizeGib,
      instanceId,
    }: OneVolume & { sizeGib: number; fromSizeGib: number; instanceId: string | null }) {
      if (instanceId)
        return void (await (await world.host(hostId)).call('domain.growDisk', { id: instanceId, volumeId, sizeGib }));
      const volume = await oneOf(world, volumeId);
      const agent = await agentFor(world, hostId, volume);
      await agent.call('rbd.ensureSize', { ...addressOf(volume), sizeGib, allowShrink: false });
    },
    async undo({ hostId, volumeId, fromSizeGib, instanceId }) {
      // In use it can not shrink again: the guest may have written there. Detached, the new space is untouched.
      if (instanceId) return;
      const volume = await oneOf(world, volumeId);
      await (await agentFor(world, hostId, volume)).call('rbd.ensureSize', {
        ...addressOf(volume),
        sizeGib: fromSizeGib,
        allowShrink: true,
      });
    },
  }),

  takeSafetySnapshot: step({
    async do({ hostId, volumeId }: OneVolume, context) {
      const volume = await oneOf(world, volumeId);
      const agent = await agentFor(world, hostId, volume);
      await agent.call('rbd.ensureSnapshot', {
        ...addressOf(volume),
        snapshot: `safety-${context.operationId}`,
        tags: tagsOf(volume, 'volume', context),
      });
    },
    async undo({ hostId, volumeId }, { operationId }) {
      const volume = await oneOf(world, volumeId);
      await (await agentFor(world, hostId, volume)).call('rbd.ensureSnapshotAbsent', {
        ...addressOf(volume),
        snapshot: `safety-${operationId}`,
      });
    },
  }),

  rollBack: step({
    do: ({ hostId, volumeId, snapshotId }: OneVolume & { snapshotId: string }) =>
      rollBack(world, { hostId, volumeId }, snapshotName(snapshotId)),
    undo: ({ hostId, volumeId }, { operationId }) => rollBack(world, { hostId, volumeId }, `safety-${operationId}`),
  }),

  dropSafetySnapshot: step({
    async do({ hostId, volumeId }: OneVolume, { operationId }) {
      const volume = await oneOf(world, volumeId);
      await (await agentFor(world, hostId, volume)).call('rbd.ensureSnapshotAbsent', {
        ...addressOf(volume),
        snapshot: `safety-${operationId}`,
      });
    },
  }),
});

const setSize = (tx: Client, volumeId: string, sizeGib: number): Promise<unknown> =>
  run(tx, `UPDATE "volume" SET "sizeGib" = $2 WHERE id = $1`, [volumeId, sizeGib]);

const freeSlot = (tx: Client, volumeId: string, instanceId: string): Promise<unknown> =>
  run(tx, `UPDATE "volume" SET "instanceId" = NULL, "deviceIndex" = NULL WHERE id = $1 AND "instanceId" = $2`, [
    volumeId,
    instanceId,
  ]);

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
    async do({ volumeId }: { volumeId: string }): Promise<Located> {
      const volume = await world.database.prisma.volume.findUniqueOrThrow({ where: { id: volumeId } });
      if (!volume.poolId) throw refuse('INVALID_STATE', `volume ${volumeId} is in no pool`);
      const instance = volume.instanceId
        ? await world.database.prisma.instance.findUnique({ where: { id: volume.instanceId } })
        : null;
      const instanceHostId = instance?.hostId ?? null;
      await mustAnswer(world.database.pool, instanceHostId);
      return {
        hostId: instanceHostId ?? (await reachingHost(world.database.pool, volume.poolId)),
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
    async do(
      { volumeId, instanceId }: { volumeId: string; instanceId: string },
      context,
    ): Promise<{ hostId: string | null }> {
      await asHolder(world.database, context, (tx) =>
        run(
          tx,
          `UPDATE "volume" v SET "instanceId" = $2, "deviceIndex" = free.slot FROM (
           SELECT min(slot) AS slot FROM generate_series(1, ${diskSlots - 1}) slot WHERE NOT EXISTS (
             SELECT 1 FROM "volume" o WHERE o."instanceId" = $2 AND o."deviceIndex" = slot AND o."deletedAt" IS NULL)) free
         WHERE v.id = $1 AND v."instanceId" IS NULL AND free.slot IS NOT NULL`,
          [volumeId, instanceId],
        ),
      );
      const volume = await world.database.prisma.volume.findUniqueOrThrow({ where: { id: volumeId } });
      if (!volume.instanceId)
        throw refuse('NOT_SUPPORTED', `instance ${instanceId} has ${diskSlots} disks, and can have no more`);
      if (volume.instanceId !== instanceId)
        throw refuse('ALREADY_ATTACHED', `volume ${volumeId} is attached to instance ${volume.instanceId}`);
      const instance = await world.database.prisma.instance.findUniqueOrThrow({ where: { id: instanceId } });
      await mustAnswer(world.database.pool, instance.hostId);
      return { hostId: instance.hostId };
    },
    undo: ({ volumeId, instanceId }, context) =>
      asHolder(world.database, context, async (tx) => void (await freeSlot(tx, volumeId, instanceId))),
  }),

  freeSlot: step({
    do: (
      { volumeId, instanceId }: { volumeId: string; instanceId: string; deviceIndex: number | null },
      context,
    ): Promise<void> =>
      asHolder(world.database, context, async (tx) => void (await freeSlot(tx, volumeId, instanceId))),
    async undo({ volumeId, instanceId, deviceIndex }, context) {
      await asHolder(world.database, context, (tx) =>
        run(tx, `UPDATE "volume" SET "instanceId" = $2, "deviceIndex" = $3 WHERE id = $1`, [
          volumeId,
          instanceId,
          deviceIndex,
        ]),
      );
    },
  }),

  /** The root volume that an expunged instance leaves behind is a volume like any other. */
  keepRoot: step({
    async do({ instanceId }: { instanceId: string }, context) {
      await asHolder(world.database, context, (tx) =>
        run(
          tx,
          `UPDATE "volume" SET role = 'data', "instanceId" = NULL, "deviceIndex" = NULL
           WHERE "instanceId" = $1 AND role = 'root' AND "deletedAt" IS NULL`,
          [instanceId],
        ),
      );
    },
  }),

  /** Room for a volume to grow in its pool. What a volume was promised is its size in the records, so this is the claim: the database decides. */
  claimGrowth: step({
    async do({ volumeId, sizeGib, fromSizeGib }: { volumeId: string; sizeGib: number; fromSizeGib: number }, context) {
      if (sizeGib < fromSizeGib)
        throw refuse('INVALID_ARGUMENT', `volume ${volumeId} has ${fromSizeGib} GiB; volumes only grow`);
      await asHolder(world.database, context, (tx) => setSize(tx, volumeId, sizeGib));
    },
    async undo({ volumeId, fromSizeGib }, context) {
      await asHolder(world.database, context, (tx) => setSize(tx, volumeId, fromSizeGib));
    },
  }),

  /** The size that a volume has been given; a larger one than before must have room in its pool. */
  recordSize: step({
    async do({ volumeId, sizeGib }: { volumeId: string; sizeGib: number; fromSizeGib: number }, context) {
      await asHolder(world.database, context, (tx) => setSize(tx, volumeId, sizeGib));
    },
    async undo({ volumeId, fromSizeGib }, context) {
      await takingBack(world.database, async (tx) => {
        await speakFor(tx, context);
        await setSize(tx, volumeId, fromSizeGib);
      });
    },
  }),
});
