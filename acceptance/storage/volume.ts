import { findSpace } from '../../database/placement.ts';
import { liveApart } from '../../database/pools.ts';
import { from, statement, type Values } from '../../database/statement.ts';
import { diskSlots } from '../../model/storage/volume.ts';
import { Problem } from '../../runtime/problem.ts';
import type { Accepting, Condition, Hooks, Row } from '../change.ts';
import { invalid } from '../violation.ts';
import { onlyPoolOf, poolsMustBeAble } from './ability.ts';
import { acceptSize, typeAllows, typeIsOffered } from './size.ts';
import { instanceOf, relatedInstance, stillAttachedTo } from './snapshot.ts';

async function create(accepting: Accepting): Promise<void> {
  const { tx, row, input, references } = accepting;
  const source = (input.source ?? {}) as { imageId?: string; snapshotId?: string };
  if (source.imageId && source.snapshotId) throw invalid('source', 'names at most one of imageId, snapshotId');
  if (source.imageId && references.get(`image/${source.imageId}`)?.enabled === false)
    throw invalid('source.imageId', 'is not offered any more');
  const from = references.get(source.imageId ? `image/${source.imageId}` : `snapshot/${source.snapshotId}`);
  if (from && from.zoneId !== input.zoneId) throw invalid('source', 'is in another zone');
  if (source.snapshotId)
    await poolsMustBeAble(tx, [from?.poolId], 'clone', { kind: 'snapshot', id: source.snapshotId });
  const least = Number(from?.minSizeGib ?? from?.sizeGib ?? 0);
  const sizeGib = Number(input.sizeGib ?? least);
  if (sizeGib === 0) throw invalid('sizeGib', 'is needed for an empty volume');
  if (sizeGib < least) throw invalid('sizeGib', `must be at least ${least}, the size of its source`);
  const type = references.get(`volumeType/${String(input.volumeTypeId)}`);
  typeIsOffered(type, 'volumeTypeId');
  typeAllows(type, sizeGib, 'sizeGib');
  row.sizeGib = sizeGib;
  row.architecture = from?.architecture ?? null;
  const imageId = source.imageId ?? null;
  const storageClass = String(type?.storageClass);
  const onlyPoolId = source.snapshotId ? await onlyPoolOf(tx, from, storageClass, 'volumeTypeId') : null;
  const need = { id: row.id, sizeGib, poolId: null, onlyPoolId, storageClass, imageId };
  accepting.placement = await findSpace(tx, String(input.zoneId), need);
}

const notAttached = (volume: Row): Condition => ({
  field: 'instanceId',
  is: null,
  code: 'ALREADY_ATTACHED',
  message: `volume ${volume.id} is attached to an instance`,
});

const attachedTo = (row: Row): string => {
  if (!row.instanceId) throw new Problem('INVALID_STATE', `volume ${row.id} is not attached`);
  return String(row.instanceId);
};

/** A root volume is destroyed, recovered and freed with its instance, and not alone. */
const notRoot = (row: Row): void => {
  if (row.role === 'root' && row.instanceId)
    throw new Problem(
      'NOT_SUPPORTED',
      `volume ${row.id} is the root of instance ${String(row.instanceId)} and goes with it`,
      {
        resource: { kind: 'instance', id: String(row.instanceId) },
      },
    );
};

const disksOf = statement((p: Values<{ instanceId: string }>) =>
  from.selectFrom('volume').select('id').where('instanceId', '=', p.instanceId).where('deletedAt', 'is', null),
);

/** Those on their way to the instance come one after another, and the database gives each its slot. */
async function refuseFullSlots(tx: Accepting['tx'], instanceId: string): Promise<void> {
  const disks = await disksOf(tx, { instanceId });
  if (disks.length >= diskSlots)
    throw new Problem('NOT_SUPPORTED', `instance ${instanceId} has ${diskSlots} disks, and can have no more`, {
      resource: { kind: 'instance', id: instanceId },
      limit: diskSlots,
    });
}

/** One that came to be so meanwhile is refused by the database. */
async function refuseApart(tx: Accepting['tx'], volumeId: string, instanceId: string): Promise<void> {
  if ((await liveApart(tx, { volumeId, instanceId })).length > 0)
    throw new Problem(
      'INVALID_STATE',
      `volume ${volumeId} is on the disks of one host, and instance ${instanceId} is on another host, or has a volume there`,
      { resource: { kind: 'instance', id: instanceId } },
    );
}

export const volumeHooks: Hooks = {
  'volume.create': {
    references(input) {
      const source = (input.source ?? {}) as { imageId?: string; snapshotId?: string };
      return [
        ...(source.imageId ? [{ kind: 'image', id: source.imageId, field: 'source.imageId' }] : []),
        ...(source.snapshotId ? [{ kind: 'snapshot', id: source.snapshotId, field: 'source.snapshotId' }] : []),
      ];
    },
    accept: create,
  },
  'volume.attach': {
    references: (input) => [{ kind: 'instance', id: String(input.instanceId), field: 'instanceId', use: 'attach' }],
    conditions: ({ row }) => [notAttached(row)],
    holds: ({ input }) => [{ kind: 'instance', id: String(input.instanceId), mode: 'X', from: ['running', 'stopped'] }],
    async accept({ tx, row, input, references }) {
      const instance = references.get(`instance/${String(input.instanceId)}`);
      await refuseFullSlots(tx, String(input.instanceId));
      if (instance?.zoneId !== row.zoneId) throw invalid('instanceId', 'is in another zone');
      await refuseApart(tx, row.id, String(input.instanceId));
    },
  },
  'volume.detach': {
    related: ({ row }) => relatedInstance(row),
    conditions: ({ row }) => [
      stillAttachedTo(row),
      {
        field: 'role',
        is: 'data',
        code: 'NOT_SUPPORTED',
        message: `volume ${row.id} is the root of instance ${String(row.instanceId)} and goes with it`,
      },
    ],
    holds: ({ row }) => instanceOf(row),
    accept({ row, workflowInput }) {
      workflowInput.instanceId = attachedTo(row);
    },
  },
  'volume.resize': {
    related: ({ row }) => relatedInstance(row),
    conditions: ({ row }) => [stillAttachedTo(row)],
    holds: ({ row }) => instanceOf(row),
    async accept(accepting) {
      const { row, input } = accepting;
      const sizeGib = Number(input.sizeGib);
      if (sizeGib <= Number(row.sizeGib))
        throw invalid('sizeGib', `must be more than ${String(row.sizeGib)}: volumes only grow`);
      if (row.instanceId)
        await poolsMustBeAble(accepting.tx, [row.poolId], 'growInUse', { kind: 'volume', id: row.id });
      await acceptSize(accepting, sizeGib, 'sizeGib');
    },
  },
  'volume.revert': {
    references: (input) => [{ kind: 'snapshot', id: String(input.snapshotId), field: 'snapshotId', use: 'revert' }],
    // A stopped instance keeps its disk, and does not start meanwhile.
    related: ({ row }) => relatedInstance(row),
    holds: ({ row }) => instanceOf(row).map((hold) => ({ ...hold, from: ['stopped', 'destroyed'] })),
    conditions: ({ row }) => [stillAttachedTo(row)],
    async accept(accepting) {
      const { row, input, references, workflowInput } = accepting;
      const snapshot = references.get(`snapshot/${String(input.snapshotId)}`);
      if (snapshot?.volumeId !== row.id) throw invalid('snapshotId', 'is of another volume');
      await poolsMustBeAble(accepting.tx, [row.poolId], 'snapshot', { kind: 'volume', id: row.id });
      workflowInput.sizeGib = Number(snapshot.sizeGib);
      await acceptSize(accepting, Number(snapshot.sizeGib), 'snapshotId');
    },
  },
  'volume.delete': { conditions: ({ row }) => [notAttached(row)] },
  'volume.recover': { accept: ({ row }) => notRoot(row) },
  'volume.expunge': { accept: ({ row }) => notRoot(row) },
};
